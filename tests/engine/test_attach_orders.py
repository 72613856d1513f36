"""A method among everything else that is put on a pipeline and taken off it, in any order.

A twin goes through the same changes without the method. While the method is on, the pipeline answers as the twin does
with the method put on last; with the method off again the two are one.
"""

import random

import pytest
import torch
from beside import Adapted, fresh_pipe, images, latent, load_ip_adapter

from sega import attach, load_method
from sega.errors import RequestError
from sega.testing.checks import state

SIZE = (256, 192)  # beyond the training side for every method
METHODS = ("ntk", "sega", "ultraimage")
CPU = torch.device("cpu")


def answer(pipe, changes):
    given = images() if changes["ip adapter"] else {}
    return latent(pipe, size=SIZE, steps=1, **given)


def offload(pipe, on):
    pipe.enable_model_cpu_offload(device="cpu") if on else pipe.remove_all_hooks()


def group_offload(pipe, on):
    from diffusers.hooks import HookRegistry

    transformer = pipe.transformer
    if on:
        transformer.enable_group_offload(CPU, CPU, "block_level", num_blocks_per_group=1)
        return
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    for name in ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading"):
        registry.remove_hook(name, recurse=True)


def lora(pipe, on):
    layer = pipe.transformer.x_embedder
    pipe.transformer.x_embedder = Adapted(layer) if on else layer.base_layer


def ip_adapter(pipe, on):
    load_ip_adapter(pipe) if on else pipe.unload_ip_adapter()


def mine(pipe, on):
    """A forward somebody wraps for himself."""
    transformer = pipe.transformer
    if on:
        inner = transformer.forward
        transformer.forward = lambda *args, **kwargs: inner(*args, **kwargs)
    else:
        del transformer.forward


CHANGES = {
    "offload": offload,
    "group offload": group_offload,
    "lora": lora,
    "ip adapter": ip_adapter,
    "wrapped forward": mine,
}
FORWARD = ("offload", "group offload", "wrapped forward")  # each takes `forward` for itself; one at a time


def swap_scheduler(pipe):
    pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config)


def to_device(pipe):
    pipe.transformer.to(CPU)
    pipe.vae.to(CPU)


def compile_blocks(pipe):
    pipe.transformer.compile_repeated_blocks(backend="eager")


ONCE = {"swap scheduler": swap_scheduler, "to(device)": to_device, "compile blocks": compile_blocks}


class Walk:
    """A pipeline, its twin, and what was done to them so far."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.pipe, self.twin = fresh_pipe(), fresh_pipe()
        self.on = dict.fromkeys(CHANGES, False)
        self.attachment, self.method, self.swapped = None, None, False
        self.order = [f"seed {seed}"]

    def attach(self):
        name = self.draw.choice(METHODS)
        self.order.append(f"attach {name}")
        self.method = load_method(name, "tiny")
        self.attachment, self.swapped = attach(self.pipe, self.method), False

    def remove(self):
        self.order.append("remove")
        self.attachment.remove()
        self.attachment = None

    def change(self):
        name = self.draw.choice([*CHANGES, *ONCE])
        if name in FORWARD and any(self.on[other] for other in FORWARD if other != name):
            return
        if name in ONCE:
            self.order.append(name)
            self.swapped |= name == "swap scheduler"
            for pipe in (self.pipe, self.twin):
                ONCE[name](pipe)
            return
        self.on[name] = not self.on[name]
        self.order.append(f"{name} {'on' if self.on[name] else 'off'}")
        for pipe in (self.pipe, self.twin):
            CHANGES[name](pipe, self.on[name])

    def run(self):
        self.order.append("run")
        if self.attachment is None:
            assert torch.equal(answer(self.pipe, self.on), answer(self.twin, self.on))
            return
        if self.swapped:
            with pytest.raises(RequestError, match="scheduler of the pipeline was replaced"):
                answer(self.pipe, self.on)
            answer(self.twin, self.on)  # the refused run has told the new scheduler its times
            self.order.append("refused")
            self.remove()
            return
        with attach(self.twin, self.method):
            expected = answer(self.twin, self.on)
        assert torch.equal(answer(self.pipe, self.on), expected)

    def end(self):
        if self.attachment is not None:
            self.remove()
        assert state(self.pipe, kinds=True) == state(self.twin, kinds=True)
        self.run()
        for name in (name for name, on in self.on.items() if on):
            self.order.append(f"{name} off")
            CHANGES[name](self.pipe, False)
        assert torch.equal(latent(self.pipe, size=SIZE, steps=1), latent(fresh_pipe(), size=SIZE, steps=1))


@pytest.mark.parametrize("seed", range(10))
def test_any_order_is_right_while_attached_and_stock_in_the_end(seed):
    walk = Walk(seed)
    try:
        for _ in range(12):
            turn = walk.draw.random()
            if turn < 0.25:
                walk.attach() if walk.attachment is None else walk.remove()
            elif turn < 0.75:
                walk.change()
            else:
                walk.run()
        walk.end()
    except BaseException:
        print("order:", " -> ".join(walk.order))
        raise


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", METHODS)
def test_what_comes_or_goes_while_attached_is_right_and_leaves_nothing(change, name):
    """Each change put on before and taken off while attached, and the other way round."""
    pipe, twin, method = fresh_pipe(), fresh_pipe(), load_method(name, "tiny")
    on = dict.fromkeys(CHANGES, False)
    for now in (True, False):
        with attach(pipe, method):
            for target in (pipe, twin):
                CHANGES[change](target, now)
            on[change] = now
            with attach(twin, method):
                expected = answer(twin, on)
            assert torch.equal(answer(pipe, on), expected)
        assert state(pipe, kinds=True) == state(twin, kinds=True)
        assert torch.equal(answer(pipe, on), answer(twin, on))


@pytest.mark.parametrize("name", METHODS)
def test_blocks_compiled_and_moved_while_attached(name):
    pipe, twin, method = fresh_pipe(), fresh_pipe(), load_method(name, "tiny")
    with attach(pipe, method):
        before = latent(pipe, size=SIZE, steps=1)
        for target in (pipe, twin):
            compile_blocks(target)
            to_device(target)
        torch.testing.assert_close(latent(pipe, size=SIZE, steps=1), before, rtol=1e-4, atol=1e-4)
    assert torch.equal(latent(pipe, size=SIZE, steps=1), latent(twin, size=SIZE, steps=1))
    assert state(pipe, kinds=True) == state(twin, kinds=True)


def test_a_stand_in_that_others_wrapped_lets_go():
    """Somebody wraps `set_timesteps` while a method is on it: the method can't be taken out, so it steps aside."""
    pipe, twin = fresh_pipe(), fresh_pipe()
    attachment = attach(pipe, load_method("ntk", "tiny"))
    inner, calls = pipe.scheduler.set_timesteps, []

    def counted(num_inference_steps=None, device=None, sigmas=None, mu=None):
        calls.append(mu)
        return inner(num_inference_steps, device, sigmas=sigmas, mu=mu)

    pipe.scheduler.set_timesteps = counted
    attachment.remove()
    assert torch.equal(latent(pipe, size=SIZE), latent(twin, size=SIZE)) and len(calls) == 1
    with attach(pipe, load_method("ntk", "tiny")), attach(twin, load_method("ntk", "tiny")):
        assert torch.equal(latent(pipe, size=SIZE), latent(twin, size=SIZE))
    assert pipe.scheduler.set_timesteps is counted
