"""The command line. `command` is its entry point; it imports `app`, and with it the commands, only when it runs."""

__all__: list[str] = []
