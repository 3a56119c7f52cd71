"""The core on NVIDIA GPUs."""
