"""A local server that plays endpoints, for the other chat tests, and a test that it plays."""

import contextlib
import http.server
import json
import threading
import urllib.request


class Server:
    """Plays a list of answers, the last one for ever, and keeps what was asked."""

    def __init__(self, *answers, tls=None):
        self.answers, self.asked, self.headers, self.paths = list(answers), [], [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append(json.loads(body))
                server.headers.append(dict(self.headers))
                server.paths.append(self.path)
                answer = server.answers[0] if len(server.answers) == 1 else server.answers.pop(0)
                if callable(answer):
                    answer = answer(server.asked[-1], self)
                if answer is not None:
                    send(self, *answer)

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that hangs up is part of the play
        self.port = self._http.server_address[1]
        scheme = "http"
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self.port}/v1"

    def __enter__(self):
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def send(handler, status, body, headers=(), *, length=None, kind="application/json"):
    """Send bytes, text or JSON; `length` may promise more than there is."""
    data = body if isinstance(body, bytes) else (
        body.encode() if isinstance(body, str) else json.dumps(body).encode()
    )  # fmt: skip
    with contextlib.suppress(OSError):
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in dict(headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.close_connection = handler.close_connection or length is not None


def chat(text=None, *, tokens=(11, 7), end="stop", **message):
    """A chat completion with this text."""
    usage = {} if tokens is None else {
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    }  # fmt: skip
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": end}
    return 200, {"model": "served-1", "choices": [choice], **usage}


def error(status, message, headers=(), **more):
    """An error in the form that most endpoints give it."""
    return status, {"error": {"message": message, **more}}, headers


def test_the_server_plays_its_list_and_keeps_what_was_asked() -> None:
    with Server(error(500, "x"), chat("hello")) as server:
        request = urllib.request.Request(f"{server.url}/chat/completions", b'{"a": 1}')
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(urllib.error.HTTPError):
            opener.open(request, timeout=10)
        with opener.open(request, timeout=10) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"] == "hello"
    assert server.asked == [{"a": 1}] * 2
    assert server.paths == ["/v1/chat/completions"] * 2
