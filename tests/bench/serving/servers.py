"""The two servers that are compared: Auxin, and git's own CGI behind nginx and fcgiwrap."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from .repositories import ROOT, git

PASSWORD = "the bench sings on time"
NAME = "bench"
START_SECS = 60
# Git's programs that run at once behind fcgiwrap.
WORKERS = 20


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "auxin"], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return pathlib.Path(target) / "release" / "auxin"


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third on; None if the process is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def rss_anon_kib(pid):
    """Memory of a process that is not mapped from files."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"RssAnon:\s+(\d+)", status)
    return int(found.group(1)) if found else 0


def descendants(pids):
    """All processes below these."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat_fields(entry.name)):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = [], list(pids)
    while left:
        below = parents.get(left.pop(), [])
        found += below
        left += below
    return found


class Auxin:
    """A running Auxin with one person in it, who signs in with a token."""

    title = "Auxin"

    def __init__(self, program, folder, maintains=False, cores=None):
        self.program, self.data = program, folder / "data"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("AUXIN_")}
        self.env["AUXIN_MAINTENANCE__ENABLED"] = "true" if maintains else "false"
        self.env.update(AUXIN_SERVER__MAX_REQUESTS_PER_CALLER="1000", AUXIN_GIT__MAX_PACKS_BUILDING="16")
        self.log_path = folder / "log"
        self.start(cores)
        self.token = self.token_of()

    def start(self, cores=None):
        admin = dict(self.env, AUXIN_ADMIN_USER=NAME, AUXIN_ADMIN_PASSWORD=PASSWORD)
        self.log = open(self.log_path, "w+b")
        pinned = ["taskset", "-c", cores] if cores else []
        self.process = subprocess.Popen(
            [*pinned, self.program, "serve", "--data", self.data, "--listen", "127.0.0.1:0"],
            env=admin, stdout=self.log, stderr=self.log,
        )
        end = time.monotonic() + START_SECS
        found = None
        while not found:
            found = re.search(rb"127\.0\.0\.1:([1-9]\d*)", self.log_path.read_bytes())
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(self.log_path.read_text())
            time.sleep(0.05)
        self.host = f"127.0.0.1:{found.group(1).decode()}"
        while subprocess.run(["curl", "-s", "-o", os.devnull, f"http://{self.host}/livez"]).returncode:
            if time.monotonic() > end:
                sys.exit("the server does not answer")
            time.sleep(0.05)

    def restart(self, cores=None):
        self.stop()
        self.start(cores)

    def token_of(self):
        out = self.command("token", "create", NAME, "--scope", "admin", "--json")
        return re.search(r"auxin_[A-Za-z0-9_]+", out).group(0)

    def command(self, *args):
        done = subprocess.run([self.program, *args, "--data", self.data], env=self.env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"auxin {' '.join(map(str, args))}: {done.stderr}")
        return done.stdout

    def add(self, name, source):
        """Takes over a copy of a repository."""
        copy = self.data.parent / "adopted" / f"{name}.git"
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(source, copy, copy_function=lambda a, b: os.link(a, b) if "/objects/" in str(a) else shutil.copy2(a, b))
        self.command("repo", "adopt", f"{NAME}/{name}", copy)

    def bare(self, name):
        return self.data / "repos" / NAME / f"{name}.git"

    def path(self, name):
        return f"/{NAME}/{name}.git"

    def cpu_secs(self):
        """Processor time of the one process, to the nanosecond: the clock that POSIX gives each process."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory_kib(self):
        return rss_anon_kib(self.process.pid)

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.terminate()
        self.process.wait()


NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    gzip off;
    sendfile on;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    proxy_temp_path {folder}/proxy;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        auth_basic git;
        auth_basic_user_file {folder}/passwords;
        location /static/ {{ alias {folder}/static/; }}
        location / {{
            fastcgi_param SCRIPT_FILENAME {folder}/counted;
            fastcgi_param COUNTED_PROGRAM {backend};
            fastcgi_param COUNTED_FILE {folder}/used;
            fastcgi_param GIT_PROJECT_ROOT {folder}/repositories;
            fastcgi_param GIT_HTTP_EXPORT_ALL 1;
            fastcgi_param GIT_PROTOCOL $http_git_protocol;
            fastcgi_param GIT_CONFIG_NOSYSTEM 1;
            fastcgi_param GIT_CONFIG_GLOBAL {folder}/gitconfig;
            fastcgi_param HOME {folder};
            fastcgi_param PATH_INFO $uri;
            fastcgi_param REMOTE_USER $remote_user;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_buffering off;
            fastcgi_read_timeout 3600s;
            fastcgi_pass unix:{folder}/fcgi;
        }}
    }}
}}
"""


class GitHttpBackend:
    """`git http-backend` behind nginx and fcgiwrap; only the processor time of git's processes counts."""

    title = "git"

    def __init__(self, folder, port):
        self.folder, self.host, self.token = folder, f"127.0.0.1:{port}", "bench-token"
        (folder / "repositories").mkdir(parents=True)
        (folder / "static").mkdir()
        (folder / "gitconfig").write_text("[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n[http]\n\treceivepack = true\n"
                                          "[uploadpack]\n\tallowFilter = true\n")
        (folder / "passwords").write_text(f"{NAME}:{{PLAIN}}{self.token}\n")
        backend = pathlib.Path(git("--exec-path").decode().strip()) / "git-http-backend"
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, backend=backend))
        folder.chmod(0o755)
        counted = pathlib.Path(__file__).with_name("counted.c")
        subprocess.run(["cc", "-O2", "-o", folder / "counted", counted], check=True)
        (folder / "used").touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        socket = folder / "fcgi"
        self.wrapper = subprocess.Popen(["fcgiwrap", "-c", str(WORKERS), "-s", f"unix:{socket}"], env=clean,
                                        stdout=subprocess.DEVNULL, stderr=open(folder / "fcgi.log", "wb"))
        while not socket.exists():
            time.sleep(0.05)
        # Nginx drops its rights when root starts it; here it reads what only this person may read.
        user = f"user {os.environ.get('USER', 'root')};\n" if os.geteuid() == 0 else ""
        conf = folder / "nginx.conf"
        conf.write_text(user.replace(os.environ.get("USER", "root"), "root") + conf.read_text())
        self.nginx = subprocess.Popen(["nginx", "-c", conf, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_SECS
        while subprocess.run(["curl", "-s", "-o", os.devnull, f"http://{self.host}/static/"]).returncode:
            if time.monotonic() > end or self.nginx.poll() is not None:
                sys.exit((folder / "nginx.log").read_text())
            time.sleep(0.05)

    def add(self, name, source):
        copy = self.bare(name)
        shutil.copytree(source, copy, copy_function=lambda a, b: os.link(a, b) if "/objects/" in str(a) else shutil.copy2(a, b))

    def bare(self, name):
        return self.folder / "repositories" / f"{name}.git"

    def path(self, name):
        return f"/{name}.git"

    def pids(self):
        return [self.wrapper.pid, *descendants([self.wrapper.pid])]

    def cpu_secs(self):
        """Processor time of all git processes that came to their end."""
        return sum(map(int, (self.folder / "used").read_text().split())) / 1e6

    def front_cpu_secs(self):
        """Processor time of nginx alone."""
        pids = [self.nginx.pid, *descendants([self.nginx.pid])]
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)

    def memory_kib(self):
        """All of git's processes together; fcgiwrap's own workers are not counted."""
        running = [pid for pid in descendants([self.wrapper.pid]) if not is_wrapper(pid)]
        return sum(map(rss_anon_kib, running))

    def stop(self):
        # fcgiwrap leaves its workers alone when it ends.
        workers = descendants([self.wrapper.pid])
        for process in (self.nginx, self.wrapper):
            process.terminate()
            process.wait()
        for pid in workers:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass


def is_wrapper(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in ("fcgiwrap", "counted")
    except (FileNotFoundError, ProcessLookupError):
        return True
