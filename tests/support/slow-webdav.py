#!/usr/bin/env python3
"""A WebDAV server of one folder, as slow as it is told, with passwords as they are told, each time anew.

    slow-webdav.py PORT ROOT CONTROL

CONTROL is a folder: its file `rate` holds the bytes a second that uploads come in with (none: no limit), its file `users`
lines `name:password` (none: nobody is asked). Conditions, ETags and MOVE are kept as a good server keeps them. Its file
`grace` holds the seconds for which it goes on when the machine is shut down, as a server on another machine would, its file
`ahead` those by which its clock is ahead. With `cert.pem` and `key.pem` it speaks TLS.
"""
import base64, hashlib, os, shutil, signal, ssl, sys, threading, time, urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

PORT, ROOT, CONTROL = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LOCK = threading.Lock()


def control(name):
    try:
        with open(os.path.join(CONTROL, name)) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def etag(path):
    about = os.stat(path)
    if os.path.isdir(path):
        return f'"{about.st_ino:x}"'
    with open(path, "rb") as file:
        return '"%s-%x"' % (hashlib.sha1(file.read()).hexdigest(), about.st_ino)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp=None):
        return formatdate(time.time() + int(control("ahead") or 0), usegmt=True)

    def log_message(self, *words):
        pass

    def place(self, url=None):
        path = urllib.parse.unquote(urllib.parse.urlsplit(url or self.path).path)
        return os.path.normpath(ROOT + "/" + path)

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        left = int(self.headers.get("Content-Length") or 0)
        pieces = []
        while left:
            rate = int(control("rate") or 0)
            piece = self.rfile.read(min(left, rate // 20 + 1 if rate else 1 << 20))
            if not piece:
                raise ConnectionError("gone")
            if rate:
                time.sleep(len(piece) / rate)
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def is_let_in(self):
        users = control("users").split()
        given = self.headers.get("Authorization", "")
        if users and not any(
            given == "Basic " + base64.b64encode(user.encode()).decode() for user in users
        ):
            self.close_connection = True
            self.answer(401, headers=[("WWW-Authenticate", 'Basic realm="test"')])
            return False
        return True

    def holds(self, path):
        exists = os.path.exists(path)
        match, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if match and (not exists or match not in ("*", etag(path))):
            return False
        if none and exists and none in ("*", etag(path)):
            return False
        for tag in self.headers.get("If", "").split("[")[1:]:
            source = self.place()
            if not os.path.exists(source) or tag.split("]")[0] != etag(source):
                return False
        return True

    def do(self):
        try:
            if self.is_let_in():
                getattr(self, "handle_" + self.command.lower())()
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_DELETE = do_MKCOL = do_MOVE = do_PROPFIND = do_OPTIONS = do

    def handle_options(self):
        self.answer(200, headers=[("DAV", "1"), ("Allow", "GET, HEAD, PUT, DELETE, MKCOL, MOVE, PROPFIND")])

    def handle_get(self):
        path = self.place()
        if not os.path.isfile(path):
            return self.answer(404)
        with open(path, "rb") as file:
            content = file.read()
        headers = [("ETag", etag(path)), ("Last-Modified", formatdate(os.stat(path).st_mtime, usegmt=True))]
        asked = self.headers.get("Range")
        if self.headers.get("If-Match") not in (None, "*", etag(path)):
            return self.answer(412)
        if asked and self.headers.get("If-Range", etag(path)) == etag(path):
            first, last = asked.removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last or len(content) - 1), len(content) - 1)
            headers.append(("Content-Range", f"bytes {first}-{last}/{len(content)}"))
            return self.answer(206, content[first : last + 1], headers)
        self.answer(200, content, headers)

    handle_head = handle_get

    def handle_put(self):
        content = self.body()
        path = self.place()
        with LOCK:
            if not os.path.isdir(os.path.dirname(path)) or os.path.isdir(path):
                return self.answer(409)
            if not self.holds(path):
                return self.answer(412)
            new = not os.path.exists(path)
            with open(path + ".part~", "wb") as file:
                file.write(content)
            os.rename(path + ".part~", path)
            self.answer(201 if new else 204, headers=[("ETag", etag(path))])

    def handle_delete(self):
        path = self.place()
        with LOCK:
            if not os.path.exists(path):
                return self.answer(404)
            if not self.holds(path):
                return self.answer(412)
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
            self.answer(204)

    def handle_mkcol(self):
        try:
            os.mkdir(self.place())
            self.answer(201)
        except FileExistsError:
            self.answer(405)
        except FileNotFoundError:
            self.answer(409)

    def handle_move(self):
        source, target = self.place(), self.place(self.headers["Destination"])
        with LOCK:
            if not os.path.exists(source):
                return self.answer(404)
            if not os.path.isdir(os.path.dirname(target)):
                return self.answer(409)
            there = os.path.exists(target)
            if (there and self.headers.get("Overwrite") == "F") or not self.holds(source):
                return self.answer(412)
            if there and os.path.isdir(target):
                shutil.rmtree(target)
            os.rename(source, target)
            self.answer(204 if there else 201)

    def handle_propfind(self):
        self.body()
        path = self.place()
        if not os.path.exists(path):
            return self.answer(404)
        paths = [path]
        if self.headers.get("Depth") == "1" and os.path.isdir(path):
            paths += sorted(os.path.join(path, name) for name in os.listdir(path) if not name.endswith(".part~"))
        parts = []
        for one in paths:
            about = os.stat(one)
            folder = os.path.isdir(one)
            href = "/" + urllib.parse.quote(os.path.relpath(one, ROOT)) if one != os.path.normpath(ROOT) else "/"
            kind = "<D:collection/>" if folder else ""
            length = "" if folder else f"<D:getcontentlength>{about.st_size}</D:getcontentlength>"
            parts.append(
                f"<D:response><D:href>{escape(href + ('/' if folder and href != '/' else ''))}</D:href><D:propstat><D:prop>"
                f"<D:resourcetype>{kind}</D:resourcetype>{length}<D:getetag>{escape(etag(one))}</D:getetag>"
                f"<D:getlastmodified>{formatdate(about.st_mtime, usegmt=True)}</D:getlastmodified>"
                "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
            )
        text = '<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">' + "".join(parts) + "</D:multistatus>"
        self.answer(207, text.encode(), [("Content-Type", "application/xml")])


# Standing in it keeps its disk mounted while the machine shuts down.
os.chdir(ROOT)
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(int(control("grace") or 0), os._exit, [0]).start())
server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
if os.path.exists(CONTROL + "/cert.pem"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CONTROL + "/cert.pem", CONTROL + "/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
