"""What SECURITY.md promises, on a real, watched server: no network but a judge's, no secret in pictures, no pickles."""

import ast
import asyncio
import io
import json
import os
import re
import urllib.request

import pytest
from icedit.headless.client import ComfyClient
from icedit.headless.workflow import load_workflow, with_value
from PIL import Image
from support.chat_server import ChatServer, Reply, says
from support.guarded import KEY
from support.hosts import need_for
from support.workflows import NODE_FOLDERS, PACK, TINY_STACK_WORKFLOWS, WORKFLOWS, with_every_picture

NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


def quick(path, **judge):
    """A shipped workflow, short; with a judge's server if its inputs are given."""
    workflow = load_workflow(path)
    kinds = {node["class_type"] for node in workflow.values()}
    values = {
        "DiptychCreate": ("panel_width=64",),
        "KSampler": ("steps=2",),
        "EarlyFilterSampler": ("steps=3", "candidates=2", "probe_steps=1", "keep=1"),
    }
    for kind in kinds & values.keys():
        for value in values[kind]:
            workflow = with_value(workflow, f"{kind}.{value}")
    if judge:
        workflow["judge"] = {"class_type": "EditJudgeEndpoint", "inputs": {"model": "m", "checks": False, **judge}}
        workflow = with_value(workflow, 'EarlyFilterSampler.judge=["judge", 0]')
        (sampler,) = (key for key, node in workflow.items() if node["class_type"] == "EarlyFilterSampler")
        workflow["report"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 3]}}
    return with_every_picture(workflow, "fine.png")


def run(guarded, workflow):
    """All that a prompt's sender gets to see: its outputs, and its pictures with their names."""

    async def go():
        async with ComfyClient(guarded.server.url) as client:
            result = await client.run(workflow)
            return result.outputs, {picture.filename: await client.download(picture) for picture in result.pictures}

    return asyncio.run(go())


def judged(guarded, chat, swap_order=False):
    return run(guarded, quick(WORKFLOWS / "api" / "icedit_early_filter.json", base_url=chat.url, swap_order=swap_order))


@pytest.mark.server
class TestWatched:
    def test_the_watch_sees_a_reader(self, guarded):
        """Where the crafted prompts leave no trace, one would be seen."""
        control = guarded.outside / "control.txt"
        control.write_text("x")
        os.utime(control, (0, control.stat().st_mtime))
        assert guarded.read_outside() == []
        control.read_text()
        seen = guarded.read_outside()
        control.unlink()
        if not seen:
            pytest.skip("this file system keeps no times of access; the interpreter's record alone is looked at")
        assert seen == [control]

    @pytest.mark.parametrize("path", TINY_STACK_WORKFLOWS, ids=lambda path: path.name)
    def test_a_workflow_calls_nobody_unpickles_nothing_and_writes_its_pictures_only(self, guarded, path):
        need_for(path)
        before, start = guarded.files(), guarded.audit.stat().st_size
        _, pictures = run(guarded, quick(path))
        events = guarded.events(start)
        assert str(guarded.server.folder / "input" / "fine.png") in {event[1] for event in events if event[0] == "open"}
        assert not [event for event in events if event[0] in NETWORK or event[0].startswith(("pickle.", "subprocess."))]
        new = guarded.files().keys() - before.keys()
        assert {path.name for path in new} == pictures.keys()
        assert {path.relative_to(guarded.server.folder).parts[0] for path in new} <= {"output", "temp"}

    def test_a_judges_server_alone_is_called_and_alone_learns_the_key(self, guarded):
        start = guarded.audit.stat().st_size
        with ChatServer(lambda _, call: says(f"{call.headers['Authorization']}\nANSWER: 2")) as chat:
            outputs, pictures = judged(guarded, chat)
            assert {call.headers["Authorization"] for call in chat.calls} == {f"Bearer {KEY}"}
            assert not [call for call in chat.calls if KEY in json.dumps(call.body)]
        assert "ANSWER: 2" in json.dumps(outputs)
        called = {event[2] for event in guarded.events(start) if event[0] == "socket.connect"}
        assert called == {str(("127.0.0.1", chat.server.server_port))}
        for address in ("history", "object_info", "queue", "system_stats"):
            with urllib.request.urlopen(f"{guarded.server.url}/{address}") as answer:
                assert KEY.encode() not in answer.read(), address
        assert KEY not in json.dumps(outputs) + guarded.server.log_file.read_text()
        for name, content in pictures.items():
            check_metadata(guarded, name, content)

    def test_a_redirect_is_not_followed_and_takes_no_key_along(self, guarded):
        with ChatServer(lambda *_: says("ANSWER: 1")) as elsewhere:
            target = {"Location": f"{elsewhere.url}/chat/completions"}
            with ChatServer(lambda *_: Reply(b"", 307, target)) as chat:
                outputs, pictures = judged(guarded, chat)
                assert chat.calls
            assert elsewhere.calls == []
        assert "Redirects are not followed" in json.dumps(outputs)
        assert pictures, "the pixels have judged instead"


def check_metadata(guarded, name, content):
    """A picture's texts are the prompt and the workflow, and say nothing of the machine."""
    picture = Image.open(io.BytesIO(content))
    texts = getattr(picture, "text", {})
    assert texts.keys() <= {"prompt", "workflow"}, name
    assert KEY.encode() not in content
    written = json.dumps(texts)
    for secret in (KEY, str(guarded.server.folder), str(guarded.models), str(PACK), os.path.expanduser("~/")):
        assert secret not in written, name


class TestCode:
    """What holds for every line, not for the prompts that were tried. Ruff's security rules hold the rest."""

    @pytest.mark.parametrize("folder", NODE_FOLDERS)
    def test_no_route_is_added_to_the_server(self, folder):
        for path in (PACK / folder).rglob("*.py"):
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            assert not names & {"routes", "add_routes", "add_route", "add_get", "add_post", "add_static"}, path

    def test_one_file_can_use_the_network(self):
        wanted = re.compile(r"\b(aiohttp|requests|urllib\.request|httpx|http\.client|socket)\b")
        using = {
            path.relative_to(PACK).as_posix()
            for folder in NODE_FOLDERS
            for path in (PACK / folder).rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom) and wanted.search(ast.unparse(node))
        }
        assert using == {"early_filter/judges/endpoint.py"}

    def test_environment_variables_are_read_in_one_place(self):
        readers = {
            path.relative_to(PACK).as_posix()
            for folder in NODE_FOLDERS
            for path in (PACK / folder).rglob("*.py")
            if re.search(r"\benviron\b|\bgetenv\b", path.read_text())
        }
        assert readers == {"early_filter/judges/api_key.py"}
