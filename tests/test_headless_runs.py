"""Runs of the client that others disturb: lost sockets, removed prompts, several runs at once."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
from icedit.headless.client import ComfyClient, ComfyError
from icedit.headless.workflow import load_workflow, with_picture, with_seed, with_value
from support.proxy import proxy_to
from support.workflows import PACK, WORKFLOWS

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]

PATIENCE = 40


@pytest.fixture
def impatient(monkeypatch):
    """The client asks after a moment's silence and gives up after a few tries."""
    from icedit.headless import following

    monkeypatch.setattr(following, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(following, "RETRY_SECONDS", (0.2, 0.2, 0.2, 0.2))


def steps(number, seed=0):
    """A workflow that samples that many steps; no other of the session's, whose results the server would remember."""
    workflow = load_workflow(WORKFLOWS / "api" / "icedit.json")
    workflow = with_value(with_seed(workflow, 1000 * number + seed), "DiptychCreate.panel_width=64")
    return with_value(workflow, f"KSampler.steps={number}")


async def filled(client, workflow):
    return with_picture(workflow, await client.upload_picture(PACK / "headless" / "astronaut.jpg"))


async def ask(url, path, body=None):
    async with aiohttp.ClientSession() as session:
        if body is None:
            async with session.get(f"{url}{path}") as answer:
                return await answer.json()
        async with session.post(f"{url}{path}", json=body) as answer:
            return await answer.read()


async def queued(url, part):
    """The ids of the prompts in a part of the queue, once there are some."""
    for _ in range(400):
        if ids := [item[1] for item in (await ask(url, "/queue"))[part]]:
            return ids
        await asyncio.sleep(0.05)
    pytest.fail(f"{part} stays empty")


@contextlib.asynccontextmanager
async def busy(url):
    """The server works on a long prompt, which is taken back at the end."""
    async with ComfyClient(url) as client:
        started = asyncio.Event()
        workflow = await filled(client, steps(10000))
        task = asyncio.create_task(client.run(workflow, lambda _: started.set()))
        await asyncio.wait_for(started.wait(), PATIENCE)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class TestRemovedPrompts:
    @pytest.mark.parametrize("kind", ["delete", "clear"])
    def test_the_owner_is_told_at_once(self, server, kind):
        async def go():
            async with busy(server.url), ComfyClient(server.url) as client:
                task = asyncio.create_task(client.run(await filled(client, steps(2))))
                ids = await queued(server.url, "queue_pending")
                await ask(server.url, "/queue", {"delete": ids} if kind == "delete" else {"clear": True})
                await asyncio.wait_for(task, 15)

        with pytest.raises(ComfyError, match="removed from the server's queue"):
            asyncio.run(go())

    def test_a_message_that_was_lost_is_made_up_for_by_asking(self, server, impatient):
        async def go():
            async with busy(server.url), proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                proxy.muted = True
                task = asyncio.create_task(client.run(await filled(client, steps(2))))
                ids = await queued(server.url, "queue_pending")
                await asyncio.sleep(1.5)
                assert not task.done(), "as long as it is in the queue it is waited for"
                await ask(server.url, "/queue", {"delete": ids})
                await asyncio.wait_for(task, 15)

        with pytest.raises(ComfyError, match="removed from the server's queue"):
            asyncio.run(go())


class TestSilence:
    """No message comes through: the end is found in the server's history."""

    def run(self, server, workflow, then=None):
        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                proxy.muted = True
                task = asyncio.create_task(client.run(await filled(client, workflow)))
                if then is not None:
                    await then()
                return await asyncio.wait_for(task, PATIENCE)

        return asyncio.run(go())

    def test_success(self, server, impatient):
        result = self.run(server, steps(3))
        assert [picture.kind for picture in result.pictures] == ["output", "output"]

    def test_failure(self, server, impatient):
        with pytest.raises(ComfyError, match=r"failed in node 6 \(InContextEditInstruction\).*instruction is empty"):
            self.run(server, with_value(steps(4), "InContextEditInstruction.editText= "))

    def test_interruption(self, server, impatient):
        async def interrupt():
            (prompt_id,) = await queued(server.url, "queue_running")
            await ask(server.url, "/interrupt", {"prompt_id": prompt_id})

        with pytest.raises(ComfyError, match="interrupted on the server"):
            self.run(server, steps(10000, seed=1), interrupt)


class TestLostSockets:
    def test_a_running_prompt_is_followed_to_its_end(self, server, monkeypatch):
        from icedit.headless import following

        monkeypatch.setattr(following, "RETRY_SECONDS", (0.05,) * 4)
        seen = []

        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:

                def note(progress):
                    seen.append(progress.value)
                    if len(seen) == 3:
                        proxy.cut()

                return await asyncio.wait_for(client.run(await filled(client, steps(300)), note), PATIENCE)

        assert asyncio.run(go()).pictures
        assert len(seen) > 3
        assert seen[-1] == 300, "the new socket got the last steps"

    def test_the_server_may_take_the_old_sockets_end_for_the_new_ones(self, server, impatient):
        """ComfyUI forgets the socket of an id when the one before it ends; then nothing more comes."""

        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                seen = []
                proxy.linger.clear()
                workflow = await filled(client, steps(10000, seed=2))
                task = asyncio.create_task(client.run(workflow, lambda progress: seen.append(progress.value)))
                while not seen:
                    await asyncio.sleep(0.05)
                proxy.cut()
                while proxy.requests.count("/ws") < 2:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.1)
                proxy.linger.set()
                await asyncio.sleep(0.2)
                before = len(seen)
                while len(seen) == before:
                    assert not task.done()
                    await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(asyncio.wait_for(go(), PATIENCE))

    @pytest.mark.parametrize("down", ["no answer", "gateway"])
    def test_what_ends_while_the_server_cannot_be_reached(self, server, monkeypatch, down):
        from icedit.headless import following

        monkeypatch.setattr(following, "RETRY_SECONDS", (0.2,) * 100)

        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:

                def lose(_):
                    proxy.down = down
                    proxy.cut()

                seed = ["no answer", "gateway"].index(down)
                task = asyncio.create_task(client.run(await filled(client, steps(30, seed)), lose))
                while (await ask(server.url, "/queue"))["queue_running"] or proxy.down is None:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.5)
                assert not task.done()
                proxy.down = None
                return await asyncio.wait_for(task, PATIENCE)

        assert [picture.kind for picture in asyncio.run(go()).pictures] == ["output", "output"]

    def test_a_server_that_does_not_come_back(self, server, impatient):
        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:

                def lose(_):
                    proxy.down = "no answer"
                    proxy.cut()

                workflow = await filled(client, steps(50))
                before = len(proxy.requests)
                with pytest.raises(ComfyError, match="connection to the server was lost while it was working"):
                    await asyncio.wait_for(client.run(workflow, lose), PATIENCE)
                # aiohttp itself asks twice where a kept connection ends.
                assert 1 + 4 <= proxy.requests[before:].count("/ws") <= 1 + 2 * 4

        asyncio.run(go())

    def test_a_run_can_be_cancelled_while_the_server_cannot_be_reached(self, server):
        async def go():
            async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
                lost = asyncio.Event()

                def lose(_):
                    proxy.down = "no answer"
                    proxy.cut()
                    lost.set()

                task = asyncio.create_task(client.run(await filled(client, steps(51)), lose))
                await asyncio.wait_for(lost.wait(), PATIENCE)
                await asyncio.sleep(0.3)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 5)

        asyncio.run(go())


class TestSeveralRuns:
    def test_two_at_once_on_one_client(self, server):
        seen = {3: [], 5: []}

        async def go():
            async with ComfyClient(server.url) as client:
                workflows = {number: await filled(client, steps(number, seed=2)) for number in seen}
                runs = [client.run(workflows[number], lambda p, n=number: seen[n].append(p.value)) for number in seen]
                return await asyncio.wait_for(asyncio.gather(*runs), PATIENCE)

        results = asyncio.run(go())
        assert [len(result.pictures) for result in results] == [2, 2]
        assert len({result.prompt_id for result in results}) == 2
        assert {number: values[-1] for number, values in seen.items()} == {3: 3, 5: 5}

    def test_pictures_of_one_client_are_uploaded_into_one_folder(self, server):
        async def go():
            async with ComfyClient(server.url) as client:
                names = [await client.upload_picture(PACK / "headless" / "astronaut.jpg") for _ in range(2)]
                await client.run(with_picture(steps(2, seed=3), names[0]))
                return [*names, await client.upload_picture(PACK / "mini" / "example.png")]

        assert len({name.partition("/")[0] for name in asyncio.run(go())}) == 1


def test_events_of_other_node_packs_are_none_of_the_clients_business(server):
    async def go():
        async with proxy_to(server.url) as proxy, ComfyClient(proxy.url) as client:
            task = asyncio.create_task(client.run(await filled(client, steps(40))))
            await queued(server.url, "queue_running")
            for data in ("text", [1], None):
                await proxy.say(json.dumps({"type": "somebodys-event", "data": data}))
            return await asyncio.wait_for(task, PATIENCE)

    assert asyncio.run(go()).pictures
