import multiprocessing
import signal
import sys
from types import FrameType

from data_prep.cli import main


def stop(number: int, frame: FrameType | None) -> None:
    """End: what is finished is on the disk, and nobody waits for what workers are at."""
    for worker in multiprocessing.active_children():
        worker.kill()
    print("\nstopped; the same command goes on with what is finished", file=sys.stderr)
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop)
    sys.exit(main())
