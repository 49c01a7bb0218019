"""Figures of the first StyleGAN paper: samples, style mixing, noise detail, noise components, truncation."""

import os
import pickle
import sys

import config
import numpy as np
import PIL.Image

import dnnlib
import dnnlib.tflib as tflib

synthesis_kwargs = dict(
    output_transform=dict(func=tflib.convert_images_to_uint8, nchw_to_nhwc=True), minibatch_size=8, truncation_psi=0.7
)
_Gs_cache = dict()


def load_Gs(url):
    if url not in _Gs_cache:
        with dnnlib.util.open_url(url, cache_dir=config.cache_dir) as f:
            _G, _D, Gs = pickle.load(f)
        _Gs_cache[url] = Gs
    return _Gs_cache[url]


def latents_of(Gs, seeds):
    return np.stack([np.random.RandomState(seed).randn(Gs.input_shape[1]) for seed in seeds])


def save_rows(png, rows):
    PIL.Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]), "RGB").save(png)


def draw_uncurated_result_figure(png, Gs, columns, rows, seed):
    latents = np.random.RandomState(seed).randn(columns * rows, Gs.input_shape[1])
    images = Gs.run(latents, None, **synthesis_kwargs)  # [seed, y, x, rgb]
    save_rows(png, [images[i * columns : (i + 1) * columns] for i in range(rows)])


def draw_style_mixing_figure(png, Gs, src_seeds, dst_seeds, style_ranges):
    src_dlatents = Gs.components.mapping.run(latents_of(Gs, src_seeds), None)  # [seed, layer, component]
    dst_dlatents = Gs.components.mapping.run(latents_of(Gs, dst_seeds), None)
    src_images = Gs.components.synthesis.run(src_dlatents, randomize_noise=False, **synthesis_kwargs)
    dst_images = Gs.components.synthesis.run(dst_dlatents, randomize_noise=False, **synthesis_kwargs)
    rows = [[np.full_like(src_images[0], 255), *src_images]]
    for row, dst_image in enumerate(dst_images):
        row_dlatents = np.stack([dst_dlatents[row]] * len(src_seeds))
        row_dlatents[:, style_ranges[row]] = src_dlatents[:, style_ranges[row]]
        row_images = Gs.components.synthesis.run(row_dlatents, randomize_noise=False, **synthesis_kwargs)
        rows.append([dst_image, *row_images])
    save_rows(png, rows)


def draw_noise_detail_figure(png, Gs, num_samples, seeds):
    rows = []
    for seed in seeds:
        latents = np.stack([np.random.RandomState(seed).randn(Gs.input_shape[1])] * num_samples)
        images = Gs.run(latents, None, **synthesis_kwargs)
        diff = np.std(np.mean(images, axis=3), axis=0) * 4
        diff = np.clip(diff + 0.5, 0, 255).astype(np.uint8)
        rows.append([images[0], images[1], np.repeat(diff[:, :, np.newaxis], 3, axis=2)])
    save_rows(png, rows)


def draw_noise_components_figure(png, Gs, seeds, noise_ranges):
    noise_vars = [var for name, var in Gs.components.synthesis.vars.items() if name.startswith("noise")]
    noise_pairs = list(zip(noise_vars, tflib.run(noise_vars), strict=True))  # [(var, val), ...]
    latents = latents_of(Gs, seeds)
    all_images = []
    for noise_range in noise_ranges:
        tflib.set_vars({var: val * (1 if i in noise_range else 0) for i, (var, val) in enumerate(noise_pairs)})
        all_images.append(Gs.run(latents, None, randomize_noise=False, **synthesis_kwargs))
    tflib.set_vars(dict(noise_pairs))
    save_rows(png, all_images)


def draw_truncation_trick_figure(png, Gs, seeds, psis):
    dlatents = Gs.components.mapping.run(latents_of(Gs, seeds), None)  # [seed, layer, component]
    dlatent_avg = Gs.get_var("dlatent_avg")  # [component]
    rows = []
    for dlatent in list(dlatents):
        row_dlatents = (dlatent[np.newaxis] - dlatent_avg) * np.reshape(psis, [-1, 1, 1]) + dlatent_avg
        rows.append(Gs.components.synthesis.run(row_dlatents, randomize_noise=False, **synthesis_kwargs))
    save_rows(png, rows)


def main():
    tflib.init_tf()
    url = sys.argv[1]
    os.makedirs(config.result_dir, exist_ok=True)

    def place(name):
        return os.path.join(config.result_dir, name + ".png")

    draw_uncurated_result_figure(place("uncurated"), load_Gs(url), columns=3, rows=2, seed=5)
    draw_style_mixing_figure(
        place("mixing"),
        load_Gs(url),
        src_seeds=[639, 701, 687],
        dst_seeds=[888, 829, 1898],
        style_ranges=[range(0, 8), range(0, 4), range(8, 8)],
    )
    draw_noise_detail_figure(place("detail"), load_Gs(url), num_samples=10, seeds=[1157, 1012])
    draw_noise_components_figure(
        place("components"),
        load_Gs(url),
        seeds=[1967, 1555],
        noise_ranges=[range(0, 18), range(0, 0), range(4, 18), range(0, 4), range(0, 18)],
    )
    draw_truncation_trick_figure(place("truncation"), load_Gs(url), seeds=[91, 388], psis=[1, 0.7, 0, -1])


if __name__ == "__main__":
    main()
