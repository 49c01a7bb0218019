"""The CUDA kernels without a GPU: compiled by nvcc where there is one, and run on the processor by an emulation."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import re
from collections.abc import Collection

import numpy as np
import pytest

from benchmarks.gpu_case import DTYPES, Case, Random, declare_launchers, errors_of, load_library
from benchmarks.gpu_cases import all_cases, upfirdn_case, upfirdn_reference
from benchmarks.gpu_odd_cases import LONG_SHAPES, SHORT_SHAPES, line, long_cases, short_cases
from benchmarks.gpu_warp_cases import ODD_MAPS, maps, odd_warp_cases, warp_case
from dnnlib.tflib.ops import affine_warp, build, depthwise_conv_2d, toolchain
from dnnlib.tflib.tfutil import tf
from tests.dnnlib.ops.cuda_emulation.emulate import emulate

# Vectors at addresses that are none of theirs end the process, as they would end a kernel; so do counts that overflow.
CAREFUL = (
    "-fsanitize=alignment,signed-integer-overflow",
    "-fno-sanitize-recover=alignment,signed-integer-overflow",
    "-fsanitize-undefined-trap-on-error",
)
VECTOR = 16  # bytes that kernels load at once


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """All launchers, as for compute capability 8 and later."""
    return declare_launchers(emulate(tmp_path_factory.mktemp("emulation"), build.SOURCE_DIR.glob("*.cu"), *CAREFUL))


@pytest.fixture(scope="module")
def filters_before_8(emulated, tmp_path_factory):
    """The launcher of filters for cards that copy to shared memory through registers."""
    sources = build.SOURCE_DIR.glob("upfirdn*.cu")
    library = emulate(tmp_path_factory.mktemp("before"), sources, "-DOPS_ASYNC_COPY=0", *CAREFUL)
    library.ops_cuda_upfirdn.argtypes = emulated.ops_cuda_upfirdn.argtypes
    return library


def launched(library: ctypes.CDLL) -> set[str]:
    """The kernels launched since the last call."""
    return set(library.emulation_launched().decode().split())


def between_walls(size: int) -> np.ndarray:
    """At least so many bytes, with a page before and one behind that nobody can read: who does ends the process."""
    page = mmap.PAGESIZE
    pages = mmap.mmap(-1, -(-size // page) * page + 2 * page)
    room = np.frombuffer(pages, np.uint8)
    for wall in (room[:page], room[-page:]):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(wall.ctypes.data), ctypes.c_size_t(page), 0) == 0
    return room[page:-page]


def placed(array: np.ndarray, offset: int, last: bool) -> tuple[np.ndarray, np.ndarray]:
    """A copy that begins `offset` bytes off an address for vectors, and all bytes around it: NaN in any dtype.

    It lies as near as can be to what nobody can read: that before it, or that behind it.
    """
    room = between_walls(array.nbytes + offset)
    room[:] = 0xFF
    start = (room.nbytes - array.nbytes - offset) // VECTOR * VECTOR + offset if last else offset
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy, room


def strayed(array: np.ndarray, room: np.ndarray) -> bool:
    """Whether something was written around an array."""
    start = array.ctypes.data - room.ctypes.data
    return not (np.all(room[:start] == 0xFF) and np.all(room[start + array.nbytes :] == 0xFF))


def run_once(library: ctypes.CDLL, case: Case, dtype: str, arrays: dict, odd: Collection[str], last: bool) -> dict:
    """Arrays by name after the call; those in `odd` begin one number off an address for vectors."""
    places = {n: placed(a, a.itemsize if n in odd else 0, last) for n, a in arrays.items()}
    pointers = {n: a.ctypes.data for n, (a, _) in places.items()}
    assert case.call(library, DTYPES.index(dtype), pointers, None) == 0
    assert not [n for n, (a, room) in places.items() if strayed(a, room)], f"{case.name}: written around these"
    return {n: a for n, (a, _) in places.items()}


def run_case(
    library: ctypes.CDLL,
    case: Case,
    dtype: str,
    fill: dict[str, np.ndarray] | None = None,
    odd: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Inputs (those in `fill` instead of the case's) and outputs of a case, as the kernels see and leave them.

    Whatever the order of threads and blocks, the results are the same to the bit.
    """
    kind = tf.as_dtype(dtype).as_numpy_dtype
    arrays = {n: (fill or {}).get(n, a).astype(np.float32 if n in case.wide else kind) for n, a in case.inputs.items()}
    arrays |= {n: np.full(a.shape, np.nan, np.float32 if n in case.wide else kind) for n, a in case.expected.items()}
    arrays["workspace"] = np.full(max(case.workspace, 1), np.nan, np.float32)
    arrays = {n: np.ascontiguousarray(a) for n, a in arrays.items()}
    library.emulation_backwards(1)
    reverse = run_once(library, case, dtype, arrays, odd, last=False)
    library.emulation_backwards(0)
    result = run_once(library, case, dtype, arrays, odd, last=True)
    differ = [n for n, a in result.items() if a.tobytes() != reverse[n].tobytes()]
    assert not differ, f"{case.name}: these depend on the order of threads"
    return result


# Sizes with and without vectors, with blocks that are not full, and with more than one piece per plane.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(19, 6, 12), (16, 16, 16), (130, 3, 5), (20, 32, 8)], ids=str)
def test_kernels_against_float64(emulated, dtype, shape):
    names, wrong = [], []
    for case in all_cases(dtype, *shape):
        arrays = run_case(emulated, case, dtype)
        names.append(case.name)
        wrong += errors_of(case, arrays, dtype)
    assert not wrong
    assert len(set(names)) == len(names) == 51


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_that_vectors_cannot_be_loaded_from(emulated, dtype):
    """Parts of larger arrays begin anywhere: any one of the arrays, and all of them."""
    wrong = []
    for case in all_cases(dtype, 8, 16, 16):
        if case.name.split()[0] not in ("upfirdn", "bias_act", "epilogue", "depthwise", "modulate", "energy_weights"):
            continue
        names = [*case.inputs, *case.expected]
        for odd in [*([name] for name in names), names]:
            wrong += [f"{odd} {w}" for w in errors_of(case, run_case(emulated, case, dtype, odd=odd), dtype)]
    assert not wrong


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LONG_SHAPES, ids=str)
def test_long_separable_filters(emulated, dtype, shape):
    """All of them take two passes over a tile, never the sum over all products of taps."""
    wrong = []
    for case in long_cases(Random(np.random.RandomState(1), dtype), shape):
        launched(emulated)
        wrong += errors_of(case, run_case(emulated, case, dtype), dtype)
        assert launched(emulated) == {"long_kernel"}, case.name
    assert not wrong


def test_long_filters_spread_infinities_no_further_than_their_taps(emulated):
    """Phases have different numbers of taps: what none of them meets must not be multiplied by zero."""
    pad = (7, 6, 7, 6)
    case = upfirdn_case(
        Random(np.random.RandomState(1), "float32"), (1, 30, 60, 1), (line(7),) * 2, (2, 2), (1, 1), pad
    )
    x = case.inputs["x"].copy()
    x[0, 11, 23, 0] = np.inf
    found = ~np.isfinite(run_case(emulated, case, "float32", {"x": x})["y"])
    one = np.zeros_like(x)
    one[0, 11, 23, 0] = 1
    reach = upfirdn_reference(one, np.outer(line(7), line(7)), (2, 2), (1, 1), pad) != 0
    assert np.array_equal(found, reach)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cards", ["emulated", "filters_before_8"])
def test_short_filters(request, cards, dtype):
    """The filters of the networks, wherever rows begin and end, for every multiple of one vector of channels."""
    library, wrong = request.getfixturevalue(cards), []
    for shape in SHORT_SHAPES:
        for case in short_cases(Random(np.random.RandomState(0), dtype), shape):
            launched(library)
            wrong += errors_of(case, run_case(library, case, dtype), dtype)
            assert launched(library) == {"planes_kernel" if shape[3] == 1 else "last_kernel"}, case.name
    assert not wrong


@pytest.mark.parametrize("shape", [(2, 7, 0, 1), (2, 0, 7, 1), (2, 7, 0, 8), (2, 0, 7, 8)], ids=str)
def test_images_that_are_all_padding(emulated, shape):
    case = upfirdn_case(Random(np.random.RandomState(0), "float32"), shape, line(4), (1, 1), (1, 1), (4, 4, 4, 4))
    y = run_case(emulated, case, "float32")["y"]
    assert y.size and not y.any()


def test_padding_that_stands_for_more_numbers_than_integers_count(emulated):
    """Of 60000 rows of 40000 columns above an image ten are asked for, eight numbers each; they are zero."""
    x, y = np.ones((3, 40000), np.float32), np.full((10, 8), np.nan, np.float32)
    sizes, numbers = (ctypes.c_int64 * 6)(1, 1, 3, 10, 40000, 8), (ctypes.c_int * 8)(1, 1, 1, 1, 60000, 0, 4, 4)
    taps = (ctypes.c_float * 4)(1, 3, 3, 1)
    assert emulated.ops_cuda_upfirdn(0, x.ctypes.data, y.ctypes.data, sizes, numbers, taps, taps, None) == 0
    assert not y.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_warps(emulated, dtype):
    """Singular maps, maps that are no numbers, maps beyond what integers hold; sides that differ, and of 2."""
    wrong = []
    for case in odd_warp_cases(Random(np.random.RandomState(2), dtype)):
        wrong += errors_of(case, run_case(emulated, case, dtype), dtype)
    assert not wrong


def test_singular_warps_take_no_longer(emulated):
    """Blocks whose pixels no sample sees do not look for one in the whole fine grid."""
    random, shape, work = Random(np.random.RandomState(0), "float32"), (1, 1, 200, 200), []
    for theta in (maps(1, 200)[0], ODD_MAPS["to a point"]):
        case = warp_case(random, shape, np.array([theta], float), 1)
        emulated.emulation_meetings()
        run_case(emulated, case, "float32")  # smaller ones are compared: this point is a sum of 170000 numbers
        work.append(emulated.emulation_meetings())
    assert 0 < work[1] < work[0]


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("side", [-1, 1])
def test_warps_look_at_no_pixel_for_what_is_beyond_the_extension(emulated, axis, side):
    """Infinities in pixels that no sample sees do not spread: the extension below 0 ends with the last pixels."""
    theta = np.array([[[1, 0, 0], [0, 1, 0]]], float)
    theta[0, 3 - axis, 2] = side * 45
    case = warp_case(Random(np.random.RandomState(0), "float32"), (1, 1, 34, 34), theta, 0)
    x = case.inputs["x"].copy()
    seen = 0 if side < 0 else 33  # at either end of the extension the other border's pixels stand
    x[:, :, seen if axis == 2 else slice(None), seen if axis == 3 else slice(None)] = np.inf
    assert np.isfinite(run_case(emulated, case, "float32", {"x": x})["y"]).all()


def test_workspaces_are_large_enough(emulated):
    def ask(name: str, sizes: tuple[int, ...], *more: int) -> int:
        return getattr(emulated, f"ops_cuda_{name}_workspace")((ctypes.c_int64 * len(sizes))(*sizes), *more)

    assert ask("bias_act_grad", (1000, 8, 1)) == 16 * 8  # a float per piece of 64 rows and channel
    assert ask("bias_act_grad", (2, 8, 20000)) == 2 * 2 * 8
    assert ask("modulate_grad", (4, 9, 16, 32)) == 4 * (16 * 4 + 32 * 4)  # per 8 outputs, and per 4 inputs
    assert ask("epilogue_grad", (2, 8, 100, 2), 1) > 2 * 2 * 3 * 8


def test_bad_arguments_are_error_codes(emulated):
    sizes = (ctypes.c_int64 * 3)(1, 1, 1)
    code = emulated.ops_cuda_bias_act(7, 1, 0, 1, float("nan"), None, None, None, sizes, None)
    assert code != 0 and emulated.ops_cuda_error(code) == b"invalid argument"


needs_nvcc = pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")


def compiled(plan: build.Plan) -> None:
    """Builds a plan and opens the library, which declares all launchers: they exist."""
    assert load_library(build.build(plan)).ops_cuda_error(1).decode()


in_ci = bool(os.environ.get("CI"))


@needs_nvcc
@pytest.mark.skipif(in_ci, reason="all architectures are compiled instead")
def test_compiles_with_nvcc():
    """As for a machine with one kind of GPU, with all optimisations."""
    known = toolchain.supported_archs(toolchain.find_nvcc())
    compiled(build.cuda_plan([90 if 90 in known else known[-1]]))


def shared_front_ends(archs: list[int]) -> list[str]:
    """nvcc flags: machine code for every architecture, from as few translations to PTX as show it all that it can see.

    Architectures that the sources do not tell apart take the same PTX. The newest has its own, which is kept as well.
    """
    sources = "".join(p.read_text() for p in build.SOURCE_DIR.iterdir() if p.suffix in (".cu", ".cuh", ".h"))
    told_apart = [int(n) for n in re.findall(r"__CUDA_ARCH__ *[<>=!]=? *(\d+)", sources)]
    assert len(told_apart) == len(re.findall(r"__CUDA_ARCH__ *[<>=!]", sources))
    groups: dict[tuple[bool, ...], list[int]] = {}
    for arch in archs[:-1]:
        groups.setdefault(tuple(10 * arch >= n for n in told_apart), []).append(arch)
    flags = [f"-gencode=arch=compute_{g[0]},code=[{','.join(f'sm_{a}' for a in g)}]" for g in groups.values()]
    return [*flags, f"-gencode=arch=compute_{archs[-1]},code=[sm_{archs[-1]},compute_{archs[-1]}]"]


def in_a_hurry(plan: build.Plan) -> build.Plan:
    """The same code without optimisations, as far as nvcc can be told so: in a small part of the time."""
    flags = ["-O0" if flag == "-O3" else flag for flag in plan.compiler.flags]
    if "--Ofast-compile" in toolchain.run_command([plan.compiler.path, "--help"], 60).stdout:  # newer toolkits
        flags.append("--Ofast-compile=max")
    return dataclasses.replace(plan, compiler=dataclasses.replace(plan.compiler, flags=tuple(flags)))


@needs_nvcc
@pytest.mark.skipif(not in_ci, reason="takes long; for continuous integration")
def test_compiles_for_all_architectures():
    """Those that we make code for, as far as the toolkit knows them."""
    known = toolchain.supported_archs(toolchain.find_nvcc())
    archs = [arch for arch in toolchain.CUDA_ARCHS if arch in known]
    plan = dataclasses.replace(build.cuda_plan(archs), flags=tuple(shared_front_ends(archs)))
    assert set(re.findall(r"\bsm_(\d+)", " ".join(plan.flags))) == set(map(str, archs)) and len(archs) >= 3
    compiled(in_a_hurry(plan))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_ops_on_gpus_are_compiled_where_there_are_kernels(dtype):
    """float64 has none: TensorFlow's own ops serve there."""
    with tf.Graph().as_default() as graph, tf.device("/gpu:0"):
        depthwise_conv_2d(tf.zeros([1, 4, 4, 8], dtype), tf.zeros([3, 3, 8, 1], dtype), impl="compiled")
        wanted = set() if dtype == "float64" else {"DnnlibDepthwiseConv2d"}
        if dtype in ("float32", "float64"):  # the warp takes no others
            affine_warp(tf.zeros([1, 3, 4, 4], dtype), tf.zeros([1, 2, 3], dtype), impl="compiled")
            wanted |= {"DnnlibAffineWarp"} if dtype == "float32" else set()
        assert {op.type for op in graph.get_operations() if op.type.startswith("Dnnlib")} == wanted


def test_glue_compiles_without_cuda():
    """The side of TensorFlow that calls the launchers needs g++ alone."""
    cxx = toolchain.find_cxx()
    source = str(build.SOURCE_DIR / "tf_ops.cc")
    result = toolchain.run_command([cxx.path, *cxx.flags, "-O0", "-w", "-DOPS_WITH_CUDA", "-fsyntax-only", source])
    assert result.returncode == 0, toolchain.first_error(result.stderr)


def test_sources_need_no_tensorflow():
    for path in [
        *build.SOURCE_DIR.glob("*.cu"),
        *build.SOURCE_DIR.glob("*.cuh"),
        build.SOURCE_DIR / "cuda_launchers.h",
    ]:
        assert not re.search(r'#include [<"](tensorflow|xla|tsl|Eigen|tf_)', path.read_text()), path
