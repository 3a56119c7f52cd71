"""Programs, the kernels that run them, and the executors that call the kernels.

All backends run the same source code. The modules are:

* `source`: the one source, which is written once and bound to each backend. `source.core` contains the random numbers,
  the affine update, the mixture score and the statistics; `source.chain` contains the time steps of a chain;
  `source.functions` contains the elementary functions; `source.mixture` contains the layout of a Gaussian mixture.
* `arrays`, `numba` and `cuda`: the three bindings of the source. Each defines the operations that the source needs
  (`source.functions.Ops`) and an executor. In `arrays` a value of the source is an array over all chains, in `numba` it
  is a vector with one lane per chain, and in `cuda` it is a scalar, because one thread runs one chain.
* `program`: the program (phases, each with its tables, target, key and number of steps) and the executor protocol.
* `state`: the state of the chains, which executors update in place.
* `reference`: a direct implementation of one time step on NumPy arrays, for readers and for tests.
* `initial`: random numbers for the initial states of chains.

One step of BAOAB takes the following path:

1. `uldnum.sample` obtains the stages of ``"BAOAB"`` at the step size h from the catalogue, lays out their coefficients
   as `source.core.Tables` and builds a `program.Program` of one phase. BAOAB has one stage per step: it evaluates the
   score at x, applies the last B of the step, and continues with B, A, O, A of the next step.
2. `uldnum.sampling.launch.execute` calls ``advance(state, until)`` of an executor, for example
   `numba.executor.NumbaExecutor`, until all steps are done.
3. The executor binds `source.chain.make_chain` to its backend. ``enter`` computes the memory u from (x, p) at the start
   of a phase. ``advance`` loops over the time steps. For each stage it evaluates ``s = score(G u)`` and replaces u by
   ``u + (dA u + b s + C xi)``. At recorded steps it also computes (x, p) at the end of the step from the same s.
4. `source.core.make_core` provides what ``advance`` calls: ``gather`` computes G u, ``affine`` applies a map,
   ``mixture_score`` evaluates the score of a mixture, ``four_normals`` draws xi, and ``accumulate`` and ``bin_of``
   update the statistics.
"""

__all__: list[str] = []
