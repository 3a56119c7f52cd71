"""Names of all integrators of the catalogue, with a value for each parameter."""

import numpy as np

import uldnum

CATALOGUE = [entry.signature.replace("(eta)", "(1)").replace("(momentum)", "(0.5)") for entry in uldnum.integrators()]
CATALOGUE_AT_HALF = [f"{entry.name}(0.5)" if entry.parameter else entry.name for entry in uldnum.integrators()]


def shape(name):
    """Return what the program of an integrator consists of, apart from the numbers in its tables."""
    step = uldnum.integrator(name).unit
    reads = [tuple(np.flatnonzero(stage.G)) for stage in step.stages]
    normals = [one.normals for one in (step.open, *(stage.map for stage in step.stages), step.close)]
    return step.rows, *reads, *normals, step.open_uses_score


# The first integrator with tables of each shape. Executors know nothing else of an integrator.
SHAPES = list({shape(name): name for name in reversed(CATALOGUE)}.values())[::-1]
