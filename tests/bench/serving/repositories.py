"""Repositories to measure: made from a fixed seed, or a real one in several states of packing."""

import os
import pathlib
import random
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Pushes after the last repack in the states that have many packs.
PUSHES = 200
# Commits that the bitmap does not cover in the state whose bitmap lags.
LAG_COMMITS = 1_000
# Packs in the state that was never repacked into one.
FIFTY = 50


def git(*args, cwd=None, stdin=None, env=None, stdout=subprocess.PIPE):
    """Runs stock git without any configuration of the machine."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    clean.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, GIT_TERMINAL_PROMPT="0", LC_ALL="C")
    clean.update(env or {})
    done = subprocess.run(["git", *map(str, args)], cwd=cwd, input=stdin, env=clean, stdout=stdout, stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"git {' '.join(map(str, args))}: {done.stderr.decode(errors='replace')}")
    return done.stdout or b""


def say(sentence):
    print(sentence, file=sys.stderr, flush=True)


def lines(*args, **more):
    """What git prints, line by line."""
    return git(*args, **more).decode().splitlines()


def make_history(bare, commits):
    """A history with branches, merges, tags and review refs: deep folders, texts that change a little, some audio."""
    rng = random.Random(20)
    texts = {}
    out = bytearray()
    tips = {"main": None}
    mark = 0

    def commit(ref, start, merged, number):
        nonlocal mark
        mark += 1
        at = 1_400_000_000 + number * 600
        message = f"Take {number}\n\n{'la ' * rng.randrange(30)}\n".encode()
        out.extend(f"commit {ref}\nmark :{mark}\n".encode())
        out.extend(f"author Ada <ada@example.org> {at} +0100\ncommitter Ada <ada@example.org> {at} +0100\n".encode())
        out.extend(f"data {len(message)}\n".encode() + message)
        if start:
            out.extend(f"from :{start}\n".encode())
        if merged:
            out.extend(f"merge :{merged}\n".encode())
        return mark

    def change(path, number):
        text = texts.setdefault(path, [f"{rng.random()} la la la" for _ in range(rng.randrange(5, 120))])
        text[rng.randrange(len(text))] = f"{rng.random()} lo lo lo {number}"
        content = "\n".join(text).encode()
        out.extend(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n")

    for number in range(commits):
        branch = "main" if number % 10 or number < 20 else f"solo-{number % 40}"
        start = tips.get(branch) or tips["main"]
        others = [tip for name, tip in tips.items() if name != "main" and tip]
        merged = rng.choice(others) if number % 25 == 24 and branch == "main" and others else None
        made = commit(f"refs/heads/{branch}", start, merged, number)
        for _ in range(rng.randrange(1, 5)):
            change(f"Songs/{rng.randrange(40):02}/Alternatives/{rng.randrange(12):03}/{rng.randrange(9)}.txt", number)
        if number % 50 == 0:
            content = rng.randbytes(rng.randrange(2_000, 60_000))
            path = f"Songs/{rng.randrange(40):02}/Audio Files/{number}.wav"
            out.extend(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n")
        out.extend(b"\n")
        tips[branch] = made
        if number % 100 == 99:
            out.extend(f"tag v{number}\nfrom :{made}\ntagger Ada <ada@example.org> 1400000000 +0100\ndata 2\nv\n\n".encode())
        if number % 15 == 14:
            # What was proposed and never merged: not in a default clone.
            commit(f"refs/changes/{number:06}/1", made, None, number)
            change(f"Songs/{rng.randrange(40):02}/proposal.txt", number)
            out.extend(b"\n")
    git("init", "--quiet", "--bare", "-b", "main", bare)
    git("-C", bare, "fast-import", "--quiet", stdin=bytes(out))
    git("-C", bare, "repack", "-adfbq", "--depth=50", "--window=10")
    git("-C", bare, "pack-refs", "--all")


def make_large(bare, objects):
    """About `objects` objects in few commits: many small files, deltas not searched."""
    rng = random.Random(21)
    marks = 0
    git("init", "--quiet", "--bare", "-b", "main", bare)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    importer = subprocess.Popen(["git", "-C", bare, "fast-import", "--quiet", "--depth=0"], stdin=subprocess.PIPE, env=clean)
    per_commit = 100
    for number in range(objects // (per_commit + 4)):
        marks += 1
        out = bytearray(f"commit refs/heads/main\nmark :{marks}\ncommitter Ada <a@example.org> {1_400_000_000 + number} +0000\n".encode())
        out += b"data 2\nc\n\n"
        folder = f"{rng.randrange(256):02x}/{rng.randrange(256):02x}"
        for _ in range(per_commit):
            content = rng.randbytes(24)
            out += f"M 100644 inline {folder}/{rng.randrange(400)}\ndata 24\n".encode() + content + b"\n"
        importer.stdin.write(out)
    importer.stdin.close()
    if importer.wait():
        sys.exit("git fast-import failed")
    git("-C", bare, "repack", "-adbq", "--window=0")


def kept(name, make):
    """A repository under target/bench, made once."""
    bare = ROOT / "target" / "bench" / f"{name}.git"
    done = bare.with_suffix(".made")
    if not done.exists():
        shutil.rmtree(bare, ignore_errors=True)
        bare.parent.mkdir(parents=True, exist_ok=True)
        say(f"making {bare.name}")
        make(bare)
        done.touch()
    return bare


def copied(source, bare):
    """A copy without hooks; objects are linked, since nobody writes into them."""
    shutil.copytree(source, bare, copy_function=lambda a, b: os.link(a, b) if "/objects/" in str(a) else shutil.copy2(a, b))
    return bare


def first_parents(bare, count):
    """The newest commits of HEAD's first parents, newest first."""
    return lines("-C", bare, "rev-list", "--first-parent", "-n", count, "HEAD")


def rewound(source, bare, commits):
    """A copy whose main branch is `commits` first parents back, repacked with bitmaps; what followed."""
    ahead = first_parents(source, commits + 1)[::-1]
    copied(source, bare)
    head = lines("-C", bare, "symbolic-ref", "HEAD")[0]
    git("-C", bare, "update-ref", head, ahead[0])
    # Only what is new since then goes: other refs that reach it would keep it.
    newer = set(lines("-C", bare, "for-each-ref", f"--contains={ahead[1]}", "--format=%(refname)"))
    git("-C", bare, "update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in newer).encode())
    git("-C", bare, "repack", "-adbq")
    git("-C", bare, "prune-packed")
    git("-C", bare, "prune", "--expire=now")
    return head, ahead


def pieces(ahead, count):
    """Borders that cut a chain of commits into about `count` pieces."""
    last = len(ahead) - 1
    return [ahead[last * number // count] for number in range(count + 1)]


def add_pack(source, bare, old, new):
    """What a push from `old` to `new` brings, as a pack of its own."""
    pack = git("-C", source, "pack-objects", "--revs", "--stdout", "-q", "--thin", "--delta-base-offset",
               stdin=f"{new}\n--not\n{old}\n".encode())
    git("-C", bare, "index-pack", "--stdin", "--fix-thin", stdin=pack)


def add_loose(source, bare, old, new):
    """What a push from `old` to `new` brings, as loose objects."""
    pack = git("-C", source, "pack-objects", "--revs", "--stdout", "-q", "--thin", stdin=f"{new}\n--not\n{old}\n".encode())
    git("-C", bare, "unpack-objects", "-q", stdin=pack)


def make_many(source, bare):
    """As after many pushes since the last repack: every other one a pack, the others loose; no bitmap."""
    head, ahead = rewound(source, bare, PUSHES)
    for number, (old, new) in enumerate(zip(ahead, ahead[1:])):
        (add_pack if number % 2 else add_loose)(source, bare, old, new)
    git("-C", bare, "update-ref", head, ahead[-1])
    for bitmap in bare.glob("objects/pack/*.bitmap"):
        bitmap.unlink()


def make_lagging(source, bare):
    """A bitmap, and a thousand commits in ten packs that came after it."""
    head, ahead = rewound(source, bare, LAG_COMMITS)
    borders = pieces(ahead, 10)
    for old, new in zip(borders, borders[1:]):
        add_pack(source, bare, old, new)
    git("-C", bare, "update-ref", head, ahead[-1])


def make_fifty(source, bare):
    """Fifty packs of like size, no bitmap."""
    head = lines("-C", source, "symbolic-ref", "HEAD")[0]
    chain = lines("-C", source, "rev-list", "--first-parent", "--reverse", "HEAD")
    git("init", "--quiet", "--bare", "-b", head.removeprefix("refs/heads/"), bare)
    borders = pieces(chain, FIFTY - 1)
    before = None
    for new in borders:
        wanted = f"{new}\n" + (f"--not\n{before}\n" if before else "")
        pack = git("-C", source, "pack-objects", "--revs", "--stdout", "-q", "--thin", "--delta-base-offset", stdin=wanted.encode())
        git("-C", bare, "index-pack", "--stdin", "--fix-thin", stdin=pack)
        before = new
    git("-C", bare, "update-ref", head, chain[-1])


def with_refs(source, bare, count):
    """A copy with `count` more branches, all packed."""
    copied(source, bare)
    chain = first_parents(bare, 1000)
    git("-C", bare, "update-ref", "--stdin",
        stdin="".join(f"create refs/heads/many/{number:06} {chain[number % len(chain)]}\n" for number in range(count)).encode())
    git("-C", bare, "pack-refs", "--all")
