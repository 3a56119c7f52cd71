"""The order in which files of tests begin, so that processes to which they are handed out (-n) end together."""

# Those that take the longest, half a minute to some minutes, by their time without any kernel compiled before.
LONGEST = (
    "test_cuda", "test_bits", "test_transfer", "test_orders", "test_executors", "test_user_targets", "test_fuzz",
    "test_plan", "test_distances", "test_sweep", "test_mixing", "test_cli", "test_api",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
