"""Makes quantised.safetensors.xz: weights as the quantisers' own packages store them, and what the same packages make of them again.

Needs compressed-tensors, bitsandbytes, transformers, and the unpacked sources of autoawq and gptqmodel, whose packages want a
GPU: `python make_quantised.py AUTOAWQ GPTQMODEL`, run once with the versions that README.md names.
"""

import importlib.util
import json
import logging
import lzma
import sys
import tempfile
import types
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils.helpers import calculate_qparams
from safetensors.torch import save, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

OUT, IN, GROUP = 96, 64, 32
torch.manual_seed(0)
WEIGHT = torch.randn(OUT, IN) * torch.rand(OUT, 1)
tensors: dict[str, torch.Tensor] = {}
settings: dict[str, dict] = {}


def keep(case: str, config: dict, stored: dict[str, torch.Tensor], expected: torch.Tensor) -> None:
    """`stored` by the ends of the tensors' names."""
    settings[case] = config
    for name, tensor in stored.items():
        tensors[f"{case}/{name}"] = tensor.contiguous().clone()
    tensors[f"{case}/expected"] = expected.float().contiguous().clone()


def compressed(case: str, format: str, **args) -> None:
    args = QuantizationArgs(**args)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    size = {"tensor": None, "channel": IN, "group": args.group_size}.get(args.strategy, 0)
    if args.strategy == "block":
        rows, columns = args.block_structure
        blocks = WEIGHT.reshape(OUT // rows, rows, IN // columns, columns).transpose(1, 2).flatten(2)
    else:
        blocks = WEIGHT.reshape(1, -1) if size is None else WEIGHT.reshape(OUT, -1, size)
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args)
    state = {"weight": WEIGHT, "weight_scale": scale}
    if not args.symmetric:
        state["weight_zero_point"] = zero
    compressor = PackedQuantizationCompressor if format == "pack-quantized" else NaiveQuantizationCompressor
    stored = compressor.compress(state, scheme)
    expected = compressor.decompress(stored, scheme)["weight"]
    config = {
        "quant_method": "compressed-tensors",
        "format": format,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": json.loads(args.model_dump_json())}},
    }
    keep(case, config, stored, expected)


def fp8(case: str, block: list[int] | None) -> None:
    rows, columns = block or (OUT, IN)
    blocks = WEIGHT.reshape(OUT // rows, rows, IN // columns, columns)
    scale = blocks.abs().amax((1, 3)) / 448
    values = (blocks / scale[:, None, :, None]).reshape(OUT, IN).to(torch.float8_e4m3fn)
    config = {"quant_method": "fp8", "weight_block_size": block, "activation_scheme": "dynamic"}
    expected = Fp8Dequantize(None)._dequantize_one(values, scale, torch.float32)
    keep(
        case, config, {"weight": values, "weight_scale_inv": scale if block else scale.reshape(())}, expected
    )


def bitsandbytes_4bit(kind: str, nested: bool) -> None:
    packed, state = bnb.quantize_4bit(
        WEIGHT, quant_type=kind, compress_statistics=nested, blocksize=64, quant_storage=torch.uint8
    )
    stored = {"weight": packed} | {
        f"weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()
    }
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    keep(
        f"bitsandbytes {kind}{' nested' if nested else ''}",
        config,
        stored,
        bnb.dequantize_4bit(packed, state),
    )


def bitsandbytes_8bit() -> None:
    values, largest, _ = bnb.int8_vectorwise_quant(WEIGHT.half())
    stored = {"weight": values, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    expected = bnb.int8_vectorwise_dequant(values, largest)
    keep("bitsandbytes int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, stored, expected)


def gptq(source: Path) -> None:
    for name in ("", ".utils", ".quantization"):  # the packages' own __init__ would import their kernels
        package = types.ModuleType(f"gptqmodel{name}")
        package.__path__ = [str(source / "gptqmodel" / name.strip("."))]
        sys.modules[f"gptqmodel{name}"] = package
    for name, attribute, value in (
        ("logger", "setup_logger", logging.getLogger),
        ("torch", "HAS_NPU", False),
    ):
        module = sys.modules[f"gptqmodel.utils.{name}"] = types.ModuleType(name)
        setattr(module, attribute, value)
    from gptqmodel.utils import model_dequant as theirs

    for bits, layout, shuffled in (
        (4, "gptq", False),
        (4, "gptq_v2", True),
        (8, "gptq", True),
        (2, "gptq", False),
    ):
        order = torch.randperm(IN) if shuffled else torch.arange(IN)
        groups = (order // GROUP).int()
        values = torch.randint(0, 1 << bits, (IN, OUT), dtype=torch.int32)
        zeros = torch.randint(0, 1 << bits, (IN // GROUP, OUT), dtype=torch.int32)  # as stored
        stored = {
            "qweight": theirs.pack_cols(values.t().contiguous(), bits, pack_dtype=torch.int32)
            .t()
            .contiguous(),
            "qzeros": theirs.pack_cols(zeros, bits, pack_dtype=torch.int32),
            "scales": (torch.rand(IN // GROUP, OUT) / 50).half(),
            "g_idx": groups,
        }
        config = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "checkpoint_format": layout}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.safetensors"
            save_file({f"m.{name}": tensor for name, tensor in stored.items()}, path)
            expected = theirs.convert_gptq_file(path, torch.float32, config, "cpu")["m.weight"]
        keep(f"gptq {bits} bits {layout}{' shuffled' if shuffled else ''}", config, stored, expected)


def awq(source: Path) -> None:
    spec = importlib.util.spec_from_file_location("packing", source / "awq" / "utils" / "packing_utils.py")
    packing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packing)
    words = {
        name: torch.randint(-(2**31), 2**31 - 1, (rows, OUT // 8), dtype=torch.int32)
        for name, rows in (("qweight", IN), ("qzeros", IN // GROUP))
    }
    stored = words | {"scales": (torch.rand(IN // GROUP, OUT) / 50).half()}
    made = packing.dequantize_gemm(words["qweight"], words["qzeros"], stored["scales"].float(), 4, GROUP)
    keep("awq", {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}, stored, made.t())


def mxfp4() -> None:
    blocks = torch.randint(0, 256, (2, OUT, IN // 32, 16), dtype=torch.uint8)
    scales = torch.randint(110, 135, (2, OUT, IN // 32), dtype=torch.uint8)
    expected = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    keep("mxfp4", {"quant_method": "mxfp4"}, {"blocks": blocks, "scales": scales}, expected)


INT, FLOAT = {"type": "int"}, {"type": "float", "num_bits": 8}
compressed("fp8 of the tensor", "float-quantized", strategy="tensor", **FLOAT)
compressed("fp8 of rows", "float-quantized", strategy="channel", **FLOAT)
compressed("fp8 of blocks", "float-quantized", strategy="block", block_structure=[16, 32], **FLOAT)
compressed("int8 of rows", "int-quantized", strategy="channel", num_bits=8, **INT)
compressed("int8 of rows with zeros", "int-quantized", strategy="channel", num_bits=8, symmetric=False, **INT)
compressed("packed 4 bits", "pack-quantized", strategy="group", group_size=GROUP, num_bits=4, **INT)
compressed(
    "packed 4 bits with zeros",
    "pack-quantized",
    strategy="group",
    group_size=GROUP,
    num_bits=4,
    symmetric=False,
    **INT,
)
compressed("packed 8 bits", "pack-quantized", strategy="channel", num_bits=8, **INT)
fp8("fp8 blocks", [16, 32])
fp8("fp8 one scale", None)
for kind in ("nf4", "fp4"):
    for nested in (False, True):
        bitsandbytes_4bit(kind, nested)
bitsandbytes_8bit()
gptq(Path(sys.argv[2]))
awq(Path(sys.argv[1]))
mxfp4()
made = save(tensors, metadata={"settings": json.dumps(settings)})
(Path(__file__).parent / "quantised.safetensors.xz").write_bytes(lzma.compress(made, preset=9))
