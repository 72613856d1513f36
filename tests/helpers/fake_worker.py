"""run.py with a fake in place of the denoiser: real cells, claims, records and progress, without torch.

An image depends on prompt, seed, size and method, as a real one does. The prompts of FAKE_NAN (words, commas between)
fail; each image takes up to FAKE_SECONDS; FAKE_LOG gets a line for each that was begun.
"""

import os
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from eval.hooks import HOOKS
from sega.errors import FailedImageError
from sega.run.cli import main


class Fake:
    """Makes images of coloured noise."""

    def open(self, cell, device, texts, mode, say=None):
        return None

    def free(self):
        pass

    def describe(self, device):
        return device

    def generate(self, pipe, method, prompt, seed, size, steps, **options):
        from PIL import Image

        if os.environ.get("FAKE_LOG"):
            with open(os.environ["FAKE_LOG"], "a") as file:
                file.write(f"{method.name} {prompt} {seed}\n")
        time.sleep(random.uniform(0.2, 1) * float(os.environ.get("FAKE_SECONDS", 0)))
        if any(word in prompt for word in os.environ.get("FAKE_NAN", "\0").split(",")):
            raise FailedImageError("the latent after stage 1 of 1 is not finite (100.0% of its values)")
        colours = random.Random(f"{method.name} {prompt} {seed} {size} {steps}").randbytes(size[0] * size[1] * 3)
        image = Image.frombytes("RGB", size, colours)
        return SimpleNamespace(image=image, seconds=0.01, base_seconds=0.0, calls=steps, steps=[], full_calls=None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], HOOKS, Fake()))
