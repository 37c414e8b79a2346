"""What every row of the bench stands on: files, an nginx that speaks WebDAV, mounts, and what they cost.

Everything is on loopback and below two temporary directories: one on a real disk (state directories, the native side), one
in memory for what the server serves, so that the server's disk is not measured.
"""
import asyncio, http.client, os, random, shutil, signal, socket, subprocess, sys, tempfile, threading, time

FLAT, FOLDERS, EACH = 10_000, 100, 100
MIB = 1 << 20


def log(*words):
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def timed(act, *args):
    """How long `act` takes, and its answer."""
    begun = time.perf_counter()
    answer = act(*args)
    return time.perf_counter() - begun, answer


def run(*argv, **more):
    """Runs a program that must succeed; answers its standard output."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **more)
    if done.returncode:
        raise RuntimeError("%s: exit %d: %s" % (argv[0], done.returncode, done.stderr.decode(errors="replace")[-300:]))
    return done.stdout


def wait_for(what, condition, seconds=60.0, pause=0.005):
    """Waits until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited %d s in vain: %s" % (seconds, what))
        time.sleep(pause)


def may_drop():
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def drop(what=3):
    """Makes the kernel forget: 1 pages, 2 names, 3 both."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write(str(what))


class World:
    """The files, the server and the scratch space of one run."""

    def __init__(self, dewfs, scale, fallback=False):
        self.fallback = fallback
        self.dewfs, self.scale = dewfs, scale
        self.disk = tempfile.mkdtemp(prefix="dewfs-bench-")
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.memory = tempfile.mkdtemp(prefix="dewfs-bench-", dir=in_memory)
        self.root = os.path.join(self.memory, "root")
        self.native = os.path.join(self.disk, "native")
        self.big = (1 << 30) // scale
        self.flat, self.folders, self.small = FLAT // scale, max(4, FOLDERS // scale), 2000 // scale
        self.mounts, self.numbers, self.server = [], iter(range(1, 10_000)), None

    def __enter__(self):
        log("making the files")
        data = os.path.join(self.root, "data")
        os.makedirs(os.path.join(data, "flat"))
        with open(os.path.join(data, "big"), "wb") as file:
            for _ in range(self.big // MIB):
                file.write(os.urandom(MIB))
        for number in range(self.flat):
            write(os.path.join(data, "flat", "file-%05d.txt" % number), b"%05d" % number * 40)
        chance = random.Random(1)
        for folder in range(self.folders):
            place = os.path.join(data, "tree", "d%03d" % folder)
            os.makedirs(place)
            for number in range(EACH):
                write(os.path.join(place, "f%03d" % number), b"x" * 64)
        for number in range(self.small):
            place = os.path.join(data, "source", "p%d" % (number % 4), "m%02d" % chance.randrange(12))
            os.makedirs(place, exist_ok=True)
            size = int(min(400_000, max(100, chance.lognormvariate(8.3, 1.3))))
            write(os.path.join(place, "f%04d.rs" % number), chance.randbytes(size // 2).hex().encode())
        run("cp", "-r", self.root, self.native)
        run("tar", "cf", self.path("source.tar"), "-C", os.path.join(data, "source"), ".")
        self.make_repository(os.path.join(data, "source"))
        os.sync()
        self.server = Server(self)
        return self

    def make_repository(self, source):
        self.repository = self.path("repository")
        shutil.copytree(source, self.repository)
        git = ("git", "-C", self.repository, "-c", "user.name=b", "-c", "user.email=b@localhost")
        for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all")):
            run(*git, *command)

    def __exit__(self, *_):
        for mount in list(self.mounts):
            mount.end()
        if self.server:
            self.server.stop()
        shutil.rmtree(self.disk, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.disk, *parts)

    def fresh(self, name):
        """A path that nothing has been at."""
        return self.path("%s-%d" % (name, next(self.numbers)))

    def mount(self, remote=None, state=None, options=""):
        options = ",".join(filter(None, (options, "passthrough=off" if self.fallback else "")))
        return Mount(self, remote or self.server.url, state or self.fresh("state"), options)

    def bare(self, source=None):
        """A FUSE program with nothing behind it that shows a tree, or nothing."""
        if source is None:
            source = self.fresh("nothing")
            os.mkdir(source)
        return Bare(self, source)

    def goal(self, passthrough, fallback):
        """What a row is to reach: where the kernel reads and writes by itself, and where it does not."""
        return fallback if self.fallback else passthrough


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


class Server:
    """nginx with its WebDAV modules, serving `world.root`."""

    def __init__(self, world):
        self.world, self.process = world, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = "http://127.0.0.1:%d/" % self.port
        self.home = os.path.join(world.memory, "nginx")
        os.makedirs(os.path.join(self.home, "tmp"))
        user = "user root;" if os.getuid() == 0 else ""
        write(os.path.join(self.home, "nginx.conf"), CONFIGURATION.format(
            user=user, home=self.home, port=self.port, root=world.root).encode())
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["/usr/sbin/nginx", "-p", self.home, "-c", os.path.join(self.home, "nginx.conf")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("nginx answers", self.answers, 10)

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.process:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def signal(self, which):
        """Sends a signal to the master and its workers."""
        pid = self.process.pid
        with open("/proc/%d/task/%d/children" % (pid, pid)) as children:
            workers = [int(word) for word in children.read().split()]
        for each in [pid] + workers:
            os.kill(each, which)

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def mark(self):
        return os.path.getsize(os.path.join(self.home, "access.log"))

    def since(self, mark):
        """Requests and body bytes sent since `mark`; nginx writes its log as each answer ends."""
        with open(os.path.join(self.home, "access.log")) as file:
            file.seek(mark)
            lines = [line.split() for line in file]
        return len(lines), sum(int(line[2]) for line in lines)

    def all_since(self, mark):
        """The same once nothing was added for many looks: what is fetched ahead ends after its reader."""
        seen, calm, end = self.since(mark), 0, time.monotonic() + 60
        while calm < 50:
            if time.monotonic() > end:
                raise RuntimeError("the log never comes to rest")
            time.sleep(0.02)
            now = self.since(mark)
            calm = calm + 1 if now == seen else 0
            seen = now
        return seen


class Far:
    """The same server far away: all bytes arrive half a round trip later, both ways, and a connection takes a whole one."""

    def __init__(self, server, round_trip):
        self.port, self.round_trip, self.loop = server.port, round_trip, asyncio.new_event_loop()
        self.door = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d/" % self.door.sockets[0].getsockname()[1]
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    async def serve(self, reader, writer):
        await asyncio.sleep(self.round_trip)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self.pump(reader, to_server), self.pump(from_server, writer))

    async def pump(self, reader, writer):
        try:
            while piece := await reader.read(65536):
                self.loop.call_later(self.round_trip / 2, writer.write, piece)
        except OSError:
            pass
        self.loop.call_later(self.round_trip / 2, writer.close)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


CONFIGURATION = """{user} worker_processes 2; daemon off; pid {home}/pid; error_log {home}/error.log crit;
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
events {{ worker_connections 4096; }}
http {{ default_type application/octet-stream; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 10000000;
 keepalive_timeout 300s; client_max_body_size 0; client_body_buffer_size 256k; client_body_temp_path {home}/tmp/body;
 proxy_temp_path {home}/tmp/p; fastcgi_temp_path {home}/tmp/f; uwsgi_temp_path {home}/tmp/u; scgi_temp_path {home}/tmp/s;
 log_format short '$request_method $status $body_bytes_sent'; access_log {home}/access.log short;
 dav_ext_lock_zone zone=locks:10m;
 server {{ listen 127.0.0.1:{port}; root {root};
  location / {{ dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;
   dav_ext_lock zone=locks; create_full_put_path on; dav_access user:rw group:r all:r; min_delete_depth 0; }} }} }}
"""


class Bare:
    """A mount by a FUSE program with nothing behind it, beside dewfs: what any such program costs on this machine."""

    def __init__(self, world, source):
        self.at, data = world.fresh("bare"), world.fresh("bare-data")
        os.mkdir(self.at), os.mkdir(data)
        program = os.path.join(os.path.dirname(world.dewfs), "examples", "bare_fuse")
        argv = [program, source, data, self.at] + (["plain"] if world.fallback else [])
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        world.mounts.append(self)
        self.world = world
        wait_for("the bare mount is there", lambda: os.path.ismount(self.at), 60, 0.002)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def path(self, *parts):
        return os.path.join(self.at, *parts)

    def end(self):
        if self in self.world.mounts:
            self.world.mounts.remove(self)
            subprocess.run(["fusermount3", "-uz", self.at], stderr=subprocess.DEVNULL)
            self.process.wait(60)


class Mount:
    """One mount by one daemon in the foreground."""

    def __init__(self, world, remote, state, options):
        self.world, self.state = world, state
        self.at = world.fresh("mnt")
        os.mkdir(self.at)
        self.log = open(world.path("daemon.log"), "ab")
        every = "state_dir=%s,poll=60s,write_back_delay=1s" % state
        argv = [world.dewfs, "mount", remote, self.at, "--foreground", "-o", ",".join(filter(None, (every, options)))]
        begun = time.perf_counter()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        world.mounts.append(self)
        wait_for("the mount is there", self.is_there, 60, 0.002)
        self.took = time.perf_counter() - begun

    def is_there(self):
        if self.process.poll() is not None:
            raise RuntimeError("dewfs mount ended with %d, see %s" % (self.process.returncode, self.log.name))
        return os.path.ismount(self.at)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def path(self, *parts):
        return os.path.join(self.at, *parts)

    def record(self):
        """Has the daemon bring to the catalog what came."""
        run(self.world.dewfs, "sync", self.at)

    def switches(self):
        """How often each of the daemon's threads went to sleep so far: each time, something had woken it."""
        counts, tasks = {}, "/proc/%d/task" % self.process.pid
        for task in os.listdir(tasks):
            with open(os.path.join(tasks, task, "status")) as file:
                counts[task] = sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))
        return counts

    def woken_since(self, before):
        """How often threads were woken since `switches` was asked; one that ended meanwhile was woken for that."""
        now = self.switches()
        return sum(count - before.get(task, 0) for task, count in now.items()) + len(before.keys() - now.keys())

    def end(self):
        """Unmounts and waits for the daemon; ends it by force when it does not go."""
        if self not in self.world.mounts:
            return
        self.world.mounts.remove(self)
        for _ in range(20):
            if not os.path.ismount(self.at):
                break
            if subprocess.run(["fusermount3", "-u", self.at], stderr=subprocess.DEVNULL).returncode:
                time.sleep(0.2)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            log("the daemon does not end by itself")
            self.process.kill()
            self.process.wait()
        if os.path.ismount(self.at):
            subprocess.run(["fusermount3", "-uz", self.at], stderr=subprocess.DEVNULL)
        self.log.close()

    def cpu(self):
        """Seconds of processor time the daemon has used."""
        with open("/proc/%d/stat" % self.process.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self, peak=True):
        """MiB that the daemon holds in memory: at most so far, or now."""
        key = "VmHWM:" if peak else "VmRSS:"
        with open("/proc/%d/status" % self.process.pid) as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024
