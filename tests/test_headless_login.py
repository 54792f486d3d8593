"""Servers that want to know who is calling: what is sent to whom, what is shown, and what users read."""

import asyncio
import base64
import re
import traceback

import pytest
from aiohttp import web
from icedit.headless.address import BEARER_VARIABLE, HEADERS_VARIABLE, ServerAddress
from icedit.headless.batch import Edit, run_edits
from icedit.headless.cli import main
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.job import PHOTOGRAPH
from icedit.headless.workflow import load_workflow, with_value
from support.proxy import proxy_to
from support.workflows import WORKFLOWS

PASSWORD = "c0rrect horse"
WRITTEN = "c0rrect%20horse"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
TOKEN = "eyJ.s3cret-token"


def quick():
    workflow = load_workflow(WORKFLOWS / "api" / "icedit.json")
    return with_value(with_value(workflow, "DiptychCreate.panel_width=64"), "KSampler.steps=1")


def with_login(url, login=f"me:{WRITTEN}"):
    return url.replace("://", f"://{login}@")


def hidden(text):
    return not any(secret in text for secret in (PASSWORD, WRITTEN, BASIC.partition(" ")[2], TOKEN))


class TestAddresses:
    def test_what_is_shown_has_no_login(self):
        address = ServerAddress.of(f"https://me:{WRITTEN}@example.org:8443/comfy/?token={TOKEN}#top")
        assert str(address) == "https://example.org:8443/comfy"
        assert repr(address) == "ServerAddress(url='https://example.org:8443/comfy')"
        assert dict(address.headers) == {"Authorization": BASIC}
        assert address.query == (("token", TOKEN),)

    def test_the_environments_token_and_headers(self):
        environ = {BEARER_VARIABLE: f" {TOKEN}\n"}
        assert dict(ServerAddress.of("http://x", environ).headers) == {"Authorization": f"Bearer {TOKEN}"}
        assert ServerAddress.of("http://x", {BEARER_VARIABLE: f"bearer {TOKEN}"}) == ServerAddress.of(
            "http://x", environ
        )
        other = {HEADERS_VARIABLE: "CF-Access-Client-Id: a.b\r\n\nCF-Access-Client-Secret:  c: d \n"}
        assert ServerAddress.of("http://x", other).headers == (
            ("CF-Access-Client-Id", "a.b"),
            ("CF-Access-Client-Secret", "c: d"),
        )

    def test_a_password_of_any_letters(self):
        address = ServerAddress.of("http://me:%F0%9F%94%91%2F@x")
        assert base64.b64decode(dict(address.headers)["Authorization"][6:]).decode() == "me:\N{KEY}/"

    @pytest.mark.parametrize(
        "text",
        [
            "me:s3cret@host:8188",
            "htp://me:s3cret@host",
            "http://me:s3cret@",
            "http://me:s3cret@host:port",
            "http://me:s3cret@host:99999",
            "http://me:12/s3cret@host",
            "http://me:s3cret#1@host",
            "http://me:12?s3cret@host",
            "http://me:s3cret/@host",
            "http://me:s3cret\udcff@host",
            "host/?token=s3cret",
        ],
    )
    def test_what_is_no_address_is_not_quoted(self, text, capsys, tmp_path):
        assert main(["--server", text, "--output", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert "The server address" in said and "http://" in said
        assert "s3cret" not in said and ":12" not in said

    def test_a_mistyped_option_is_quoted_without_its_address(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["--sever", f"http://me:{WRITTEN}@x?token={TOKEN}"])
        said = capsys.readouterr().err
        assert "unrecognized arguments: --sever" in said and hidden(said)

    @pytest.mark.parametrize(
        ("environ", "said"),
        [
            ({BEARER_VARIABLE: "s3cret\nX: y"}, "holds a line break"),
            ({HEADERS_VARIABLE: "A: b\ns3cret"}, f"Line 2 of {HEADERS_VARIABLE}"),
            ({HEADERS_VARIABLE: "A B: s3cret"}, f"Line 1 of {HEADERS_VARIABLE}"),
            ({HEADERS_VARIABLE: "authorization: s3cret", BEARER_VARIABLE: "s3cret"}, "two ways to log in"),
        ],
    )
    def test_variables_that_cannot_be_used(self, environ, said):
        with pytest.raises(ComfyError, match=said) as caught:
            ServerAddress.of("http://x", environ)
        assert "s3cret" not in str(caught.value)

    def test_a_password_and_a_token(self):
        with pytest.raises(ComfyError, match="two ways to log in"):
            ServerAddress.of("http://me:x@host", {BEARER_VARIABLE: "y"})


def guard(name, value, scheme="Basic"):
    """A gateway that lets nobody in without a header; ComfyUI behind it does not know of it."""

    def check(request):
        if request.headers.get(name) != value:
            return web.Response(status=401, text="<html>Who are you?</html>", content_type="text/html")
        return None

    return check


def ask_for(path, respond):
    return lambda request: respond(request) if request.path.startswith(path) else None


@pytest.mark.server
class TestLoggingIn:
    def edit(self, server, tmp_path, instead, address):
        async def go():
            async with proxy_to(server.url) as proxy:
                proxy.instead = instead
                where = address(proxy.url)
                (outcome,) = await run_edits(where, quick(), [Edit(PHOTOGRAPH, "x")], tmp_path)
                return outcome, proxy.received

        outcome, received = asyncio.run(go())
        assert outcome.error is None
        assert {"/ws", "/upload/image", "/prompt", "/view"} <= {request.path for request in received}
        return received

    def test_user_and_password(self, server, tmp_path):
        self.edit(server, tmp_path, guard("Authorization", BASIC), with_login)

    def test_a_token(self, server, tmp_path):
        environ = {BEARER_VARIABLE: TOKEN}
        instead = guard("Authorization", f"Bearer {TOKEN}")
        self.edit(server, tmp_path, instead, lambda url: ServerAddress.of(url, environ))

    def test_other_headers(self, server, tmp_path):
        environ = {HEADERS_VARIABLE: f"X-API-Key: {TOKEN}"}
        self.edit(server, tmp_path, guard("X-API-Key", TOKEN), lambda url: ServerAddress.of(url, environ))

    def test_a_query(self, server, tmp_path):
        received = self.edit(server, tmp_path, lambda _: None, lambda url: f"{url}/?token=$2b$12$a/b%2Bc")
        assert {request.query["token"] for request in received} == {"$2b$12$a/b+c"}
        assert all(request.query["filename"] for request in received if request.path == "/view")

    def test_the_command_line_takes_the_token_from_the_environment(self, server, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv(BEARER_VARIABLE, TOKEN)

        async def go():
            async with proxy_to(server.url) as proxy:
                proxy.instead = guard("Authorization", f"Bearer {TOKEN}")
                options = ["--server", proxy.url, "--output", str(tmp_path), "--set", "DiptychCreate.panel_width=64"]
                return await asyncio.to_thread(main, [*options, "--set", "KSampler.steps=1"])

        assert asyncio.run(go()) == 0
        said = capsys.readouterr()
        assert hidden(said.out + said.err)


def echo(request):
    """As gateways do that show the request in their error."""
    return web.json_response({"error": f"boom {request.path_qs} {request.headers.get('Authorization')}"}, status=500)


def redirect(location, number=302):
    return lambda _: web.Response(status=number, headers={"Location": location})


def to_login(request):
    return redirect(f"https://login.example.org/start?next={request.path_qs}")(request)


def page(_):
    return web.Response(text="<html>Log in</html>", content_type="text/html")


def status(number):
    return lambda _: web.Response(status=number, text=f"{PASSWORD} \x1b]0;owned\x07")


REFUSALS = {
    "401": (status(401), r"wants a login \(HTTP status 401\)"),
    "403": (status(403), r"refuses access to /\w+.* \(HTTP status 403\)"),
    "413": (status(413), r"takes nothing of this size.*client_max_body_size"),
    "page": (page, r"answers /\w+.* with a web page: one to log in"),
    "redirect": (to_login, r"sends whoever asks for /\w+.* to https://login.example.org/start, most likely to log in"),
    "nowhere": (redirect("http://[bad"), r"sends whoever asks for .* to an address that is none"),
    "https": (
        lambda request: redirect(str(request.url.with_scheme("https")), 301)(request),
        r"wants to be asked by https",
    ),
    "echo": (echo, r"boom /"),
    "gateway": (status(502), r"gateway does not reach ComfyUI"),
}


def all_of(error):
    """Everything that a traceback, a log or a debugger shows of it and of what it hangs together with."""
    shown = [*traceback.format_exception(error), repr(error)]
    while error := error.__cause__ or error.__context__:
        shown.append(repr(error))
    return "".join(shown)


def test_the_embedded_server_does_not_get_what_is_meant_for_another(monkeypatch):
    from icedit.private_host.server import _environ

    for name in (BEARER_VARIABLE, HEADERS_VARIABLE):
        monkeypatch.setenv(name, TOKEN)
    assert TOKEN not in _environ().values()


@pytest.mark.server
class TestRefusals:
    def refused(self, server, respond, path, login=True):
        async def go():
            async with proxy_to(server.url) as proxy:
                proxy.instead = ask_for(path, respond)
                async with ComfyClient(f"{with_login(proxy.url) if login else proxy.url}?token={TOKEN}") as client:
                    assert hidden(repr(client) + repr(vars(client)) + repr(vars(client._connection)))
                    await client.run(with_value(quick(), "DiptychCreate.image=None"))

        with pytest.raises(ComfyError) as caught:
            asyncio.run(go())
        assert hidden(all_of(caught.value))
        assert "\x1b" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("kind", REFUSALS)
    def test_each_has_its_sentence_and_none_has_the_password(self, server, kind):
        respond, said = REFUSALS[kind]
        assert re.search(said, self.refused(server, respond, "/prompt"))

    @pytest.mark.parametrize("kind", ["401", "page", "redirect"])
    def test_where_everything_is_refused(self, server, kind, caplog):
        respond, said = REFUSALS[kind]
        assert re.search(said, self.refused(server, respond, "/"))
        assert "websocket" not in caplog.text, "what is wrong is not the socket"

    def test_the_way_to_log_in_is_told_to_who_has_not(self, server):
        async def go():
            async with proxy_to(server.url) as proxy:
                proxy.instead = status(401)
                async with ComfyClient(proxy.url) as client:
                    await client.run(quick())

        with pytest.raises(ComfyError, match=rf"http://USER:PASSWORD@host:8188, or a token in .*{BEARER_VARIABLE}"):
            asyncio.run(go())

    def test_a_server_that_is_not_there(self):
        async def go():
            async with ComfyClient(f"http://me:{WRITTEN}@127.0.0.1:9?token={TOKEN}") as client:
                await client.run(quick())

        with pytest.raises(ComfyError, match=r"The connection to http://127.0.0.1:9 failed") as caught:
            asyncio.run(go())
        assert hidden(all_of(caught.value))

    @pytest.mark.parametrize("path", ["/ws", "/prompt", "/view"])
    def test_nothing_goes_to_another_server(self, server, tmp_path, path):
        """Not even by a redirect, which aiohttp follows with every header but one."""

        async def go():
            async with proxy_to(server.url) as proxy, proxy_to(server.url) as other:
                proxy.instead = ask_for(path, lambda request: redirect(f"{other.url}{request.path_qs}", 307)(request))
                environ = {HEADERS_VARIABLE: f"X-API-Key: {TOKEN}"}
                where = ServerAddress.of(f"{with_login(proxy.url)}?token={TOKEN}", environ)
                await run_edits(where, quick(), [Edit(PHOTOGRAPH, "x")], tmp_path)
                assert path in proxy.requests
                return other.requests

        assert asyncio.run(go()) == []

    def test_a_login_page_is_not_saved_as_a_picture(self, server, tmp_path):
        async def go():
            async with proxy_to(server.url) as proxy:
                proxy.instead = ask_for("/view", page)
                return await run_edits(proxy.url, quick(), [Edit(PHOTOGRAPH, "x")], tmp_path)

        (outcome,) = asyncio.run(go())
        assert "with a web page" in (outcome.error or "")
        assert list(tmp_path.iterdir()) == []
