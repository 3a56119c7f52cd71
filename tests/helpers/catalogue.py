"""Names of all integrators of the catalogue, with a value for each parameter."""

import numpy as np

import uldnum

VALUES = {"(eta)": "(1)", "(momentum)": "(0.5)", "(steps)": "(3)"}


def with_value(entry):
    """Return the name of an entry with a value of its parameter."""
    name = entry.signature
    for parameter, value in VALUES.items():
        name = name.replace(parameter, value)
    return name


NAMES = [with_value(entry) for entry in uldnum.integrators()]
# Steps that are affine, and steps with a Metropolis test.
CATALOGUE = [name for name in NAMES if not uldnum.integrator(name).metropolised]
METROPOLISED = [name for name in NAMES if name not in CATALOGUE]
CATALOGUE_AT_HALF = [f"{name.partition('(')[0]}(0.5)" if "(" in name else name for name in CATALOGUE]


def shape(name):
    """Return what the program of an integrator consists of, apart from the numbers in its tables."""
    step = uldnum.integrator(name).unit
    reads = [tuple(np.flatnonzero(stage.G)) for stage in step.stages]
    normals = [one.normals for one in (step.open, *(stage.map for stage in step.stages), step.close)]
    return step.rows, *reads, *normals, step.open_uses_score


# The first integrator with tables of each shape. Executors know nothing else of an integrator.
SHAPES = list({shape(name): name for name in reversed(CATALOGUE)}.values())[::-1]
