"""Latency of the viewer's server, measured with scripted WebSocket clients in place of browsers.

Run: ``python -m benchmarks.viewer [--clients 8] [--seconds 60] [--quick] [--short]
[--save NAME]``. For scenes of 339 k and 508 k
splats: seconds from connecting to the first picture (kernels warm, as they are when the page can be opened), pictures a
second at 480x270 with the camera moving all the time (JPEG included), the same with several clients at once, and the
server's memory before and after 200 interactions. The server runs in a process of its own, so that its memory is its
own and the clients' work does not slow its threads down more than other processes do.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SCENES = (("339 k", 2), ("508 k", 3))
"""Name and how many depth maps of 336x504 it has."""
CANVAS = (480, 270)
FOV = 0.7
"""Vertical, radians: the scene fills the picture."""


def serve(views: int, pipe: Connection) -> None:
    """The server's process: the port when it is ready, then answers to ``clean N`` (memory), ``side`` and ``end``."""
    from benchmarks.speed import layered_scene
    from da3gs.geometry.rotations import matrix_to_quaternion
    from da3gs.splats.pruning import NO_LIMITS, Limits
    from da3gs_viewer import Viewer
    from da3gs_viewer.painter import camera_at

    gaussians, cameras = layered_scene(views, 336, 504)
    position, wxyz = cameras.centers[0].numpy(), matrix_to_quaternion(cameras.cam_to_world[0, :3, :3]).numpy()
    with Viewer(gaussians, port=0) as viewer:
        viewer.artist.paint(camera_at(position, wxyz, FOV, *CANVAS), viewer.look)
        pipe.send((viewer.server.get_port(), len(gaussians), position.tolist(), wxyz.tolist()))
        while True:
            order, value = pipe.recv()
            if order == "end":
                return
            if order == "clean":
                viewer.editor.clean(NO_LIMITS if not value else Limits(edge=None, sky=False, min_opacity=value))
            if order == "side":
                pipe.send(min(round(window.painter._moving_side) for window in viewer.windows))
                continue
            pipe.send(_memory_mb())


def _memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Client:
    """A browser as far as the server can tell: it says where its camera is, and takes the pictures."""

    def __init__(self, port: int, position: list[float], wxyz: list[float]) -> None:
        """Connect and say where the camera is."""
        import viser
        from websockets.sync.client import connect

        self.began = time.perf_counter()
        self._wire = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], compression=None, max_size=None,
            proxy=None,
        )  # fmt: skip
        self._position, self._wxyz = position, wxyz
        self.pictures: list[tuple[float, int]] = []
        self.error: str | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self.look(0.0)

    def look(self, shift: float) -> None:
        """Say that the camera is somewhere else."""
        import msgspec

        x, y, z = self._position
        position = (x + 0.2 * math.sin(shift), y + 0.05 * math.sin(2 * shift), z)
        message = {
            "type": "ViewerCameraMessage", "wxyz": self._wxyz, "position": position, "fov": FOV, "near": 0.01,
            "far": 1000.0, "image_height": CANVAS[1], "image_width": CANVAS[0],
            "look_at": (position[0], position[1], position[2] + 1.0), "up_direction": (0.0, -1.0, 0.0),
        }  # fmt: skip
        self._wire.send(msgspec.msgpack.encode(message))

    def _listen(self) -> None:
        import msgspec
        import zstandard

        unpack = zstandard.ZstdDecompressor()
        try:
            for raw in self._wire:
                size = int.from_bytes(raw[8:16], "little")
                content = msgspec.msgpack.decode(unpack.decompress(raw[16 : 16 + size]))
                for message in content["messages"]:
                    if message["type"] == "BackgroundImageMessage" and message["rgb_data"] is not None:
                        self.pictures.append((time.perf_counter(), len(raw)))
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def wait_for_picture(self, seconds: float = 30.0) -> float:
        """Seconds from connecting to the first picture."""
        while not self.pictures:
            if time.perf_counter() - self.began > seconds:
                raise TimeoutError("no picture came")
            time.sleep(0.005)
        return self.pictures[0][0] - self.began

    def fly(self, seconds: float) -> float:
        """Move the camera 30 times a second; pictures a second that came meanwhile."""
        start, before = time.perf_counter(), len(self.pictures)
        while (now := time.perf_counter() - start) < seconds:
            self.look(now)
            time.sleep(1 / 30)
        return (len(self.pictures) - before) / seconds

    def close(self) -> None:
        """Go."""
        self._wire.close()


def measured(views: int, clients: int, seconds: float, interactions: int) -> dict[str, Any]:
    """All figures of one scene."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(views, theirs), daemon=True)
    process.start()
    port, splats, position, wxyz = pipe.recv()
    facts: dict[str, Any] = {"splats": splats}
    first = Client(port, position, wxyz)
    facts["first_picture_s"] = round(first.wait_for_picture(), 2)
    first.fly(2.0)
    facts["frames_a_second"] = round(first.fly(min(seconds, 15.0)), 1)
    facts["sides"] = [_side(pipe)]
    crowd = [first, *(Client(port, position, wxyz) for _ in range(clients - 1))]
    rates: list[float] = []
    threads = [threading.Thread(target=lambda c=c: rates.append(c.fly(seconds))) for c in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    facts["sides"].append(_side(pipe))
    facts["clients"], facts["seconds"] = clients, seconds
    facts["frames_a_second_each"] = [round(rate, 1) for rate in sorted(rates)]
    facts["errors"] = [c.error for c in crowd if c.error is not None]
    for one in crowd[1:]:
        one.close()
    facts["memory_mb"], facts["interactions"] = [], interactions
    for step in range(interactions + 1):
        pipe.send(("clean", 0.6 * (step % 5) / 5))
        memory = pipe.recv()
        first.look(step / 10)
        time.sleep(0.1)
        if step % max(interactions // 4, 1) == 0:
            facts["memory_mb"].append(round(memory))
    first.close()
    pipe.send(("end", None))
    process.join(20)
    return facts


def _side(pipe: Connection) -> int:
    """The long side of the smallest pictures that go out while cameras move."""
    pipe.send(("side", None))
    return int(pipe.recv())


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interactions", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="the smaller scene only")
    parser.add_argument("--short", action="store_true", help="a third of the time for the smaller scene")
    parser.add_argument("--save", metavar="NAME")
    options = parser.parse_args()
    results = {}
    for name, views in SCENES[: 1 if options.quick else None]:
        share = 1 / 3 if options.short and len(results) == 0 else 1
        seconds, interactions = share * options.seconds, round(share * options.interactions)
        results[name] = measured(views, options.clients, seconds, interactions)
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    if options.save:
        folder = Path(__file__).parent / "results"
        content = {"machine": platform.processor() or platform.machine(), "scenes": results}
        (folder / f"{options.save}.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / f"{options.save}.md").write_text(report(results))


def report(results: dict[str, dict[str, Any]]) -> str:
    """The figures as a table."""
    rows = [
        "# The viewer's server",
        "",
        "`python -m benchmarks.viewer`: scripted WebSocket clients, pictures of at most 480x270 that the scene fills,",
        "while the camera moves, JPEG included. Where drawing takes longer than 0.1 s, pictures shrink, down to",
        "240x135; *side* is theirs with one client and with several. Memory is the server's, at five times during the",
        "changes of camera and cleaning.",
        "",
        "| scene | first picture | one client | several at once | side | errors | changes: memory on the way, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, facts in results.items():
        each = facts["frames_a_second_each"]
        rows.append(
            f"| {name} | {facts['first_picture_s']} s | {facts['frames_a_second']} frames/s "
            f"| {facts['clients']} clients for {facts['seconds']:g} s: "
            f"{each[0]} to {each[-1]} frames/s each | {' and '.join(map(str, facts['sides']))} "
            f"| {len(facts['errors'])} | {facts['interactions']}: {', '.join(map(str, facts['memory_mb']))} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
