"""Servers whose websocket does not get through: the queue and the history tell how a run goes."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from icedit.headless.batch import Edit, run_edits
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.job import PHOTOGRAPH
from icedit.headless.workflow import load_workflow, with_picture, with_seed, with_value
from support.proxy import proxy_to
from support.workflows import WORKFLOWS

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]

PATIENCE = 60


def steps(number, seed=0):
    """No other workflow of the session's, whose results the server would remember."""
    workflow = load_workflow(WORKFLOWS / "api" / "icedit.json")
    workflow = with_value(with_seed(workflow, 7000 * number + seed), "DiptychCreate.panel_width=64")
    return with_value(workflow, f"KSampler.steps={number}")


def edits(server, tmp_path, instead, words=("x",)):
    """What becomes of edits behind a gateway, and the gateway."""

    async def go():
        async with proxy_to(server.url) as proxy:
            proxy.instead = instead
            return await run_edits(proxy.url, steps(1), [Edit(PHOTOGRAPH, word) for word in words], tmp_path), proxy

    return asyncio.run(go())


def refusing(status):
    return lambda request: web.Response(status=status, text="no") if request.path == "/ws" else None


class TestNoSocket:
    """The server's queue and history are all that is known."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr("icedit.headless.following.POLL_SECONDS", 0.1)
        monkeypatch.setattr("icedit.headless.following.RETRY_SECONDS", (0.1,) * 5)

    @pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 426, 500])
    def test_the_run_goes_on(self, server, tmp_path, status, caplog):
        outcomes, proxy = edits(server, tmp_path, refusing(status), words=("a", "b"))
        assert [outcome.error for outcome in outcomes] == [None, None]
        assert [len(outcome.files) for outcome in outcomes] == [2, 2]
        told = [line for line in caplog.messages if "opens no websocket" in line]
        assert len(told) == 1 and f"HTTP status {status}" in told[0]
        assert proxy.requests.count("/ws") == 2, "once a run"

    def test_a_gateway_that_drops_it(self, server, tmp_path):
        def drop(request):
            if request.path == "/ws":
                request.transport.abort()
                return web.Response()
            return None

        ((outcome,), _) = edits(server, tmp_path, drop)
        assert outcome.error is None

    def test_a_gateway_that_never_answers_it(self, server, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr("icedit.headless.connection.HANDSHAKE_SECONDS", 0.3)

        async def go():
            async with proxy_to(server.url) as proxy:
                answer = proxy._socket

                async def never(request):
                    await asyncio.sleep(PATIENCE)
                    return await answer(request)

                proxy._socket = never
                return await run_edits(proxy.url, steps(1), [Edit(PHOTOGRAPH, "x")], tmp_path)

        (outcome,) = asyncio.run(go())
        assert outcome.error is None
        assert "no answer within" in caplog.text

    def run(self, server, workflow, seen=None, then=None):
        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                proxy.instead = refusing(403)
                filled = with_picture(workflow, await client.upload_picture(PHOTOGRAPH))
                task = asyncio.create_task(client.run(filled, None if seen is None else seen.append))
                if then is not None:
                    await then(proxy)
                return await asyncio.wait_for(task, PATIENCE)

        return asyncio.run(go())

    def test_a_failure(self, server):
        with pytest.raises(ComfyError, match=r"failed in node 6 \(InContextEditInstruction\).*instruction is empty"):
            self.run(server, with_value(steps(2, 5), "InContextEditInstruction.editText= "))

    def test_an_interruption(self, server):
        seen = []

        async def interrupt(proxy):
            while not any(progress.node == "the server is working" for progress in seen):
                await asyncio.sleep(0.05)
            await proxy.post("/interrupt", {"prompt_id": await proxy.running()})

        with pytest.raises(ComfyError, match="interrupted on the server"):
            self.run(server, steps(10000, 6), seen, interrupt)

    def test_a_prompt_that_is_removed(self, server):
        with pytest.raises(ComfyError, match="removed from the server's queue"):
            self.wait_behind_another(server, [], remove=True)

    def test_the_place_in_the_queue(self, server):
        seen = []
        assert self.wait_behind_another(server, seen).pictures
        assert (seen[0].node, seen[0].value, seen[0].total) == ("waiting in the queue", 0, 1)

    def wait_behind_another(self, server, seen, remove=False):
        async def go():
            async with (
                ComfyClient(server.url) as other,
                proxy_to(server.url) as proxy,
                ComfyClient(proxy.url) as client,
            ):
                proxy.instead = refusing(403)
                name = await other.upload_picture(PHOTOGRAPH)
                first = asyncio.create_task(other.run(with_picture(steps(10000, 7), name)))
                await proxy.running()
                second = asyncio.create_task(client.run(with_picture(steps(2, 8), name), seen.append))
                while proxy.requests.count("/queue") < 3:
                    await asyncio.sleep(0.02)
                if remove:
                    await proxy.post("/queue", {"clear": True})
                    result = await asyncio.wait_for(asyncio.gather(second, return_exceptions=True), PATIENCE)
                first.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await first
                if remove and isinstance(result[0], BaseException):
                    raise result[0]
                return await asyncio.wait_for(second, PATIENCE)

        return asyncio.run(go())
