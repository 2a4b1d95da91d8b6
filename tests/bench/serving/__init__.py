"""Parts of `tests/bench/git_serving`."""
