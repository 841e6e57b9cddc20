"""The pack in a real ComfyUI: it is loaded, it offers its nodes, it hides nothing of the host's."""

from __future__ import annotations

from host_client import Client


def test_the_pack_is_loaded_and_the_host_keeps_its_own_nodes(host: Client) -> None:
    nodes = host.get("/object_info")
    assert "KSampler" in nodes
    assert nodes["KSampler"]["python_module"] == "nodes"
    log = (host.base / "host.log").read_text()
    assert "Error while calling comfy_entrypoint" not in log
    ours = [line for line in log.splitlines() if line.endswith("custom_nodes/ConceptEraser")]
    assert ours and not any("IMPORT FAILED" in line for line in ours)


def test_a_node_that_nobody_has_is_refused(host: Client) -> None:
    assert "ConceptEraser_NoSuchNode" not in host.get("/object_info")
