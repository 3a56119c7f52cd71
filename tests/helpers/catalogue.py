"""Names of all integrators of the catalogue, with a value for each parameter."""

import uldnum

CATALOGUE = [entry.signature.replace("(eta)", "(1)").replace("(momentum)", "(0.5)") for entry in uldnum.integrators()]
CATALOGUE_AT_HALF = [f"{entry.name}(0.5)" if entry.parameter else entry.name for entry in uldnum.integrators()]
