"""Files of runs in parts: the results in the root group, and the group with what resuming needs."""

from uldnum._util import files
from uldnum.sampling.storage import FORMAT, content_digest, pack


def parts_of(run):
    """Return the results of a run and its group ``resume``, as they are stored."""
    results = run.to_xarray().assign_attrs(format=FORMAT)
    return results, pack(run, results)


def stored(path, results, resume, signed=True):
    """Write the parts of a run to a file, with the digest of their content unless ``signed`` is False."""
    if signed:
        resume = resume.assign_attrs(digest=content_digest(results, resume))
    files.store(results, path, resume=resume)
    return path
