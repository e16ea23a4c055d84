"""How fast the viewer's server answers, measured with scripted WebSocket clients in place of browsers.

Run: ``python -m benchmarks.viewer [--clients 8] [--seconds 60] [--quick] [--save NAME]``. For scenes of 339 k and 508 k
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


def serve(views: int, pipe: Connection) -> None:
    """The server's process: the port when it is ready, then answers to ``memory``, ``clean N`` and ``end``."""
    from benchmarks.speed import layered_scene
    from da3gs.pipeline.clean import NO_LIMITS, Limits
    from da3gs_viewer import Viewer

    gaussians, _ = layered_scene(views, 336, 504)
    with Viewer(gaussians, port=0) as viewer:
        viewer.artist.paint(_camera(viewer.home), viewer.look)
        pipe.send((viewer.server.get_port(), len(gaussians), viewer.home.position.tolist(), viewer.home.wxyz.tolist()))
        while True:
            order, value = pipe.recv()
            if order == "end":
                return
            if order == "clean":
                viewer.editor.clean(NO_LIMITS if not value else Limits(edge=None, sky=False, min_opacity=value))
            pipe.send(_memory_mb())


def _camera(home: Any) -> Any:
    from da3gs_viewer.painter import camera_at

    return camera_at(home.position, home.wxyz, home.fov, *CANVAS)


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
            "type": "ViewerCameraMessage", "wxyz": self._wxyz, "position": position, "fov": 0.9, "near": 0.01,
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
                    if message["type"] == "BackgroundImageMessage":
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
    crowd = [first, *(Client(port, position, wxyz) for _ in range(clients - 1))]
    rates: list[float] = []
    threads = [threading.Thread(target=lambda c=c: rates.append(c.fly(seconds))) for c in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    facts["clients"] = clients
    facts["frames_a_second_each"] = [round(rate, 1) for rate in sorted(rates)]
    facts["errors"] = [c.error for c in crowd if c.error is not None]
    for one in crowd[1:]:
        one.close()
    facts["memory_mb"] = []
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


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interactions", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="the smaller scene only")
    parser.add_argument("--save", metavar="NAME")
    options = parser.parse_args()
    results = {}
    for name, views in SCENES[: 1 if options.quick else None]:
        results[name] = measured(views, options.clients, options.seconds, options.interactions)
        print(f"{name}: {json.dumps(results[name])}", flush=True)
    if options.save:
        folder = Path(__file__).parent / "results"
        content = {"machine": platform.processor() or platform.machine(), "scenes": results}
        (folder / f"{options.save}.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / f"{options.save}.md").write_text(report(results, options.seconds))


def report(results: dict[str, dict[str, Any]], seconds: float) -> str:
    """The figures as a table."""
    rows = [
        "# The viewer's server",
        "",
        f"`python -m benchmarks.viewer --seconds {seconds:g}`: scripted WebSocket clients, pictures of at most 480x270",
        "while moving, JPEG included. Where drawing takes longer than 0.1 s, pictures shrink, down to 240x135.",
        "Memory is the server's after 0, 25, 50, 75 and 100 % of 200 changes of camera and cleaning.",
        "",
        "| scene | first picture | one client | several at once | errors | memory on the way, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, facts in results.items():
        each = facts["frames_a_second_each"]
        rows.append(
            f"| {name} | {facts['first_picture_s']} s | {facts['frames_a_second']} frames/s "
            f"| {facts['clients']} clients: "
            f"{each[0]} to {each[-1]} frames/s each | {len(facts['errors'])} | "
            f"{', '.join(map(str, facts['memory_mb']))} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
