"""Methods against vectors of the released modules: values and every parameter's gradient, in float64."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from methods.base import EncoderSpec
from methods.rein import Rein
from methods.spectralmoe import DEPTH, VISUAL, SpectralMoE

GOLDEN = Path(__file__).parent / "golden"
REIN = "rein_lora_linked"
MOE = {"spectralmoe_released_laplace_k1": 1, "spectralmoe_released_softmax_k2": 2}


def load(name):
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        parts = {"state": {}, "in": {}, "out_f64": {}, "grad_f64": {}}
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            part, _, rest = key.partition("/")
            parts[part][rest] = file.get_tensor(key)
        return json.loads(file.metadata()["ctor"]), parts


def spec_of(ctor, prefix, grid=(4, 4)):
    return EncoderSpec(
        blocks=ctor["num_layers"],
        width=ctor["embed_dims"],
        heads=4,
        patch_size=ctor["patch_size"],
        grid=grid,
        prefix_tokens=prefix,
        feature_blocks=(0, 1, 2),
        queries=ctor["token_length"],
        query_width=ctor["query_dims"],
        depth_blocks=ctor["num_layers"],
        depth_width=ctor["embed_dims"],
        depth_grid=grid,
    )


def build(name):
    """The method, its inputs and the vectors, in float64."""
    ctor, parts = load(name)
    if name == REIN:
        method = Rein.from_released(parts["state"], spec_of(ctor, prefix=1))
    else:
        method = SpectralMoE.from_released(
            parts["state"],
            spec_of(ctor, prefix=5),
            preset="released",
            gating=ctor["gating"],
            top_k=ctor["top_k"],
        )
    return method.double().eval(), {k: v.double() for k, v in parts["in"].items()}, parts


def run(method, inputs):
    """All outputs by their golden names."""
    x = inputs["feats"]
    depth = inputs["depth"][:, 1:] if "depth" in inputs else None
    outputs = {}
    for layer in range(method.spec.blocks):
        x, aux = method.adapt(x, layer, depth)
        outputs[f"x{layer}"] = x
        if aux is not None:
            outputs[f"aux{layer}"] = aux
    outputs["querys"] = method.queries().position_QC
    return outputs


def released_name(name):
    """Our parameter name -> (released name, index into our tensor) pairs."""
    layers = {"token_to_feature": "mlp_token2feat", "output": "mlp_delta_f"}
    tokens = {"tokens_a": "learnable_tokens_a", "tokens_b": "learnable_tokens_b"}
    head, _, tail = name.removeprefix("link.").partition(".")
    head = tokens.get(head, layers.get(head, head))
    return f"{head}.{tail}" if tail else head


@pytest.mark.parametrize("name", [REIN, *MOE])
def test_values(name):
    method, inputs, parts = build(name)
    tolerance = 1e-10 if name == REIN else 1e-6
    outputs = run(method, inputs)
    for key, value in outputs.items():
        expected = parts["out_f64"][key].double()
        relative = tolerance if key.startswith("aux") else 0
        torch.testing.assert_close(
            value.double(), expected, atol=tolerance, rtol=relative, msg=lambda m, k=key: f"{k} {m}"
        )
    assert set(outputs) == {k for k in parts["out_f64"] if not k.startswith(("gates", "load"))}


@pytest.mark.parametrize("name", [REIN, *MOE])
def test_gradients(name):
    method, inputs, parts = build(name)
    outputs = run(method, inputs)
    total = sum(
        (v.double() * torch.linspace(-1, 1, v.numel(), dtype=torch.float64).reshape(v.shape)).sum()
        for v in outputs.values()
    )
    total.backward()
    tolerance = 1e-10 if name == REIN else 1e-6
    seen = set()
    for ours, parameter in method.named_parameters():
        stem = released_name(ours)
        grids = {"experts_a": "experts_a", "experts_b": "experts_b", "gate": "w_gate", "noise": "w_noise"}
        if stem in grids:
            rows = {
                f"{grids[stem]}.{i}.{j}": None if parameter.grad is None else parameter.grad[i, j]
                for i in range(parameter.shape[0])
                for j in range(parameter.shape[1])
            }
        else:
            rows = {stem: parameter.grad}
        for key, gradient in rows.items():
            seen.add(key)
            if key not in parts["grad_f64"]:  # the release has no gradient there
                assert gradient is None or not gradient.any(), key
                continue
            expected = parts["grad_f64"][key].double()
            scale = max(1.0, expected.abs().max().item())
            torch.testing.assert_close(
                gradient, expected, atol=tolerance * scale, rtol=0, msg=lambda m, k=key: f"{k} {m}"
            )
    assert set(parts["grad_f64"]) <= seen


@pytest.mark.parametrize("name", MOE)
def test_router(name):
    method, inputs, parts = build(name)
    prefix = method.spec.prefix_tokens
    for modality, word, x in (
        (VISUAL, "msi", inputs["feats"][:, prefix:]),
        (DEPTH, "depth", inputs["depth"][:, 1:]),
    ):
        routing = method.route(x.flatten(0, 1), 0, modality)
        torch.testing.assert_close(routing.gates_SE, parts["out_f64"][f"gates_{word}_l0"], atol=1e-10, rtol=0)
        assert torch.equal(routing.load_E, parts["out_f64"][f"load_{word}_l0"])


@pytest.mark.parametrize("name", [REIN, *MOE])
def test_float32_agrees_to_1e_5(name):
    method, inputs, parts = build(name)
    outputs = run(method.float(), {k: v.float() for k, v in inputs.items()})
    for key, value in outputs.items():
        torch.testing.assert_close(value.double(), parts["out_f64"][key].double(), atol=1e-5, rtol=1e-5)
