"""Commands for published data sets, and between data sets and the formats of other tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from training.dataset import TFRecordDataset
from training.dataset_cli.common import (
    build_options,
    encoding_options,
    make_options,
    overwrite_option,
    print_report,
    write_options,
)
from training.dataset_items import counted
from training.encodings import Encoding
from training.published.celeba import create_celeba
from training.published.cifar import CIFAR10, CIFAR100, create_cifar
from training.published.hdf5 import create_from_hdf5, export_hdf5
from training.published.lsun import create_lsun, create_lsun_wide
from training.published.mnist import create_mnist, create_mnistrgb
from training.published.packing import PackOptions, pack
from training.published.png_layout import PngTable, export_zip, read_labels, unpack
from training.published.svhn import create_svhn
from training.published.writing import DatasetTable, ImageSource, WriteOptions

_SWITCH = click.IntRange(0, 1)


def _make_write_options(
    shuffle: int,
    seed: int,
    max_images: int | None,
    validation: int,
    overwrite: bool,
    encoding: str,
    quality: int | None,
) -> WriteOptions:
    return WriteOptions(bool(shuffle), seed, max_images, overwrite, validation, Encoding(encoding, quality))


def _command(name: str, shuffle: int = 1) -> Callable:
    """A command whose options may be written with hyphens or, as published, with underscores.

    Args:
        shuffle: the default; 0 where what is published is in the order of the source.
    """
    settings = {"token_normalize_func": lambda token: token.replace("_", "-"), "default_map": {"shuffle": shuffle}}
    return click.command(name, context_settings=settings)


@_command("create_mnist")
@click.argument("tfrecord_dir")
@click.argument("mnist_dir")
@write_options
def create_mnist_command(tfrecord_dir: str, mnist_dir: str, **options: Any) -> None:
    """MNIST, padded to 32x32, with labels.

    MNIST_DIR holds train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz, unpacked or not.
    """
    print_report(create_mnist(tfrecord_dir, mnist_dir, _make_write_options(**options), click.echo))


@_command("create_mnistrgb")
@click.argument("tfrecord_dir")
@click.argument("mnist_dir")
@click.option("--num_images", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--random_seed", type=int, default=123, show_default=True, help="Decides which digits meet.")
@overwrite_option
@encoding_options
def create_mnistrgb_command(
    tfrecord_dir: str,
    mnist_dir: str,
    num_images: int,
    random_seed: int,
    overwrite: bool,
    encoding: str,
    quality: int | None,
) -> None:
    """Three random digits of MNIST as red, green and blue of each image, without labels."""
    kind = Encoding(encoding, quality)
    print_report(create_mnistrgb(tfrecord_dir, mnist_dir, num_images, random_seed, overwrite, click.echo, kind))


@_command("create_cifar10")
@click.argument("tfrecord_dir")
@click.argument("cifar10_dir")
@click.option("--ignore_labels", type=_SWITCH, default=0, show_default=True)
@write_options
def create_cifar10_command(
    tfrecord_dir: str,
    cifar10_dir: str,
    ignore_labels: int,
    **options: Any,
) -> None:
    """CIFAR-10 with labels.

    CIFAR10_DIR is cifar-10-python.tar.gz, or the folder cifar-10-batches-py that it unpacks to.
    """
    chosen = _make_write_options(**options)
    print_report(create_cifar(tfrecord_dir, cifar10_dir, CIFAR10, bool(ignore_labels), chosen, click.echo))


@_command("create_cifar100")
@click.argument("tfrecord_dir")
@click.argument("cifar100_dir")
@write_options
def create_cifar100_command(tfrecord_dir: str, cifar100_dir: str, **options: Any) -> None:
    """CIFAR-100 with the 100 fine labels.

    CIFAR100_DIR is cifar-100-python.tar.gz, or the folder cifar-100-python that it unpacks to.
    """
    chosen = _make_write_options(**options)
    print_report(create_cifar(tfrecord_dir, cifar100_dir, CIFAR100, False, chosen, click.echo))


@_command("create_svhn")
@click.argument("tfrecord_dir")
@click.argument("svhn_dir")
@write_options
def create_svhn_command(tfrecord_dir: str, svhn_dir: str, **options: Any) -> None:
    """SVHN (format 2) with labels. SVHN_DIR holds train_32x32.mat."""
    print_report(create_svhn(tfrecord_dir, svhn_dir, _make_write_options(**options), click.echo))


@_command("create_lsun", shuffle=0)
@click.argument("tfrecord_dir")
@click.argument("lmdb_dir")
@click.option("--resolution", type=int, default=256, show_default=True, help="A power of two.")
@build_options
def create_lsun_command(tfrecord_dir: str, lmdb_dir: str, resolution: int, filter_name: str, **options: Any) -> None:
    """A category of LSUN, cropped to central squares and resized. LMDB_DIR holds data.mdb."""
    print_report(create_lsun(tfrecord_dir, lmdb_dir, resolution, filter_name, make_options(**options), click.echo))


@_command("create_lsun_wide", shuffle=0)
@click.argument("tfrecord_dir")
@click.argument("lmdb_dir")
@click.option("--width", type=int, default=512, show_default=True, help="Side of the squares, a power of two.")
@click.option("--height", type=int, default=384, show_default=True, help="Of the pictures between black bars.")
@build_options
def create_lsun_wide_command(
    tfrecord_dir: str, lmdb_dir: str, width: int, height: int, filter_name: str, **options: Any
) -> None:
    """A category of LSUN as wide pictures, in squares with black bars above and below.

    Pictures that are smaller, or flatter than WIDTH x HEIGHT, are skipped.
    """
    print_report(
        create_lsun_wide(tfrecord_dir, lmdb_dir, width, height, filter_name, make_options(**options), click.echo)
    )


@_command("create_celeba")
@click.argument("tfrecord_dir")
@click.argument("celeba_dir")
@click.option("--cx", type=int, default=89, show_default=True, help="Column of the centre of the square, in pixels.")
@click.option("--cy", type=int, default=121, show_default=True, help="Row of it.")
@build_options
def create_celeba_command(
    tfrecord_dir: str, celeba_dir: str, cx: int, cy: int, filter_name: str, **options: Any
) -> None:
    """CelebA, squares of 128x128 (nothing is resized). CELEBA_DIR is img_align_celeba, or the folder it is in."""
    print_report(create_celeba(tfrecord_dir, celeba_dir, cx, cy, make_options(**options), click.echo))


@_command("create_from_hdf5")
@click.argument("tfrecord_dir")
@click.argument("hdf5_file")
@write_options
def create_from_hdf5_command(tfrecord_dir: str, hdf5_file: str, **options: Any) -> None:
    """The images of an HDF5 file in the layout of Progressive GAN.

    That is a data set `data1024x1024` [N, C, H, W] or of another size; labels from NAME-labels.npy beside NAME.h5.
    """
    print_report(create_from_hdf5(tfrecord_dir, hdf5_file, _make_write_options(**options), click.echo))


@_command("convert_to_hdf5")
@click.argument("hdf5_file")
@click.argument("tfrecord_dir")
@click.option("--compress", type=_SWITCH, default=0, show_default=True)
def convert_to_hdf5(hdf5_file: str, tfrecord_dir: str, compress: int) -> None:
    """Writes a data set as an HDF5 file that create_from_hdf5 reads."""
    dataset = TFRecordDataset(tfrecord_dir)
    labels = dataset.labels if dataset.label_size else None
    count = export_hdf5(hdf5_file, ImageSource(DatasetTable(dataset), labels), bool(compress))
    click.echo(f"Wrote {counted(count, 'image')} to {hdf5_file}")


@_command("hdf5_from_images")
@click.argument("hdf5_file")
@click.argument("image_dir")
@click.option("--compress", type=_SWITCH, default=0, show_default=True)
def hdf5_from_images(hdf5_file: str, image_dir: str, compress: int) -> None:
    """Writes the PNG files of a folder, squares of one size, as an HDF5 file, in the order of their names."""
    table = PngTable(image_dir)
    labels, _ = read_labels(table)
    count = export_hdf5(hdf5_file, ImageSource(table, labels if labels.shape[1] else None), bool(compress))
    click.echo(f"Wrote {counted(count, 'image')} to {hdf5_file}")


@_command("unpack")
@click.option("--tfrecord_dir", required=True)
@click.option("--output_dir", required=True)
@click.option("--resolution", type=int, help="Side in pixels. [default: the largest there is]")
def unpack_command(tfrecord_dir: str, output_dir: str, resolution: int | None) -> None:
    """Writes a data set as a folder of PNG files, for other tools to change, and for `pack` to take back.

    The folder has the layout of stylegan2-ada-pytorch: NNNNN/imgNNNNNNNN.png and dataset.json with the labels.
    """
    count = unpack(TFRecordDataset(tfrecord_dir, resolution=resolution), output_dir)
    click.echo(f"Wrote {counted(count, 'image')} to {output_dir}")


@_command("pack")
@click.option("--unpacked_dir", required=True)
@click.option("--tfrecord_dir", required=True)
@click.option("--num_train", type=click.IntRange(1), help="Images for training. [default: all that are left]")
@click.option("--num_validation", type=click.IntRange(0), default=0, show_default=True, help="Images held out.")
@click.option("--mirror", type=_SWITCH, default=0, show_default=True, help="Add the mirror image of each for training.")
@click.option("--seed", type=int, help="Of the order. [default: the order of the names]")
@overwrite_option
@encoding_options
def pack_command(
    unpacked_dir: str,
    tfrecord_dir: str,
    num_train: int | None,
    num_validation: int,
    mirror: int,
    seed: int | None,
    overwrite: bool,
    encoding: str,
    quality: int | None,
) -> None:
    """Makes a data set of a folder of PNG files that `unpack` wrote."""
    kind = Encoding(encoding, quality)
    options = PackOptions(num_train, num_validation, bool(mirror), seed, overwrite, kind)
    report = pack(unpacked_dir, tfrecord_dir, options, click.echo)
    print_report(report)
    if num_validation:
        click.echo(f"Held out {counted(num_validation, 'image')}, in the files validation-*")


@_command("export_zip")
@click.argument("tfrecord_dir")
@click.argument("zip_file")
@click.option("--resolution", type=int, help="Side in pixels. [default: the largest there is]")
def export_zip_command(tfrecord_dir: str, zip_file: str, resolution: int | None) -> None:
    """Writes a data set as a zip file for stylegan2-ada-pytorch: PNG files and dataset.json, not compressed."""
    count = export_zip(TFRecordDataset(tfrecord_dir, resolution=resolution), zip_file)
    click.echo(f"Wrote {counted(count, 'image')} to {zip_file}")


COMMANDS = (
    create_mnist_command,
    create_mnistrgb_command,
    create_cifar10_command,
    create_cifar100_command,
    create_svhn_command,
    create_lsun_command,
    create_lsun_wide_command,
    create_celeba_command,
    create_from_hdf5_command,
    convert_to_hdf5,
    hdf5_from_images,
    unpack_command,
    pack_command,
    export_zip_command,
)
