"""libgit2: ACTION URL FOLDER ... as tests/support/clients.rs calls it."""

import os
import sys

# This file has the package's own name: look for the package elsewhere.
sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != os.path.dirname(os.path.abspath(__file__))]
import pygit2  # noqa: E402

# GIT_FETCH_DEPTH_UNSHALLOW of libgit2.
UNSHALLOW = 2147483647


class Callbacks(pygit2.RemoteCallbacks):
    def __init__(self):
        super().__init__()
        self.refused = []

    def sideband_progress(self, string):
        print("remote:", string, file=sys.stderr)

    def push_update_reference(self, refname, message):
        if message is not None:
            self.refused.append(f"{refname}: {message}")


def main():
    action, url, folder, *rest = sys.argv[1:]
    callbacks = Callbacks()
    if action == "clone":
        pygit2.clone_repository(url, folder, callbacks=callbacks, depth=int(rest[0]))
        return
    repository = pygit2.Repository(folder)
    remote = repository.remotes["origin"]
    if action == "fetch":
        remote.fetch(callbacks=callbacks)
    elif action == "unshallow":
        remote.fetch(callbacks=callbacks, depth=UNSHALLOW)
    elif action == "mirror":
        names = [name for name in repository.references if name.startswith(("refs/heads/", "refs/tags/"))]
        remote.push([f"+{name}:{name}" for name in names], callbacks=callbacks)
    elif action == "push":
        source, target, force = rest
        sign = "+" if force else ""
        remote.push([f"{sign}{source}:{target}"], callbacks=callbacks)
    elif action == "delete":
        remote.push([f":{rest[0]}"], callbacks=callbacks)
    if callbacks.refused:
        sys.exit("\n".join(callbacks.refused))


main()
