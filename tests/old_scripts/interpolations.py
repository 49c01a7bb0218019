"""The three interpolation videos: a grid of random walks, coarse mixing, fine mixing."""

import os
import pickle
import sys

import config
import numpy as np
import PIL.Image
import scipy

import dnnlib.tflib as tflib


def main():
    tflib.init_tf()
    _G, _D, Gs = pickle.load(open(sys.argv[1], "rb"))
    os.makedirs(config.result_dir, exist_ok=True)
    grid_size = [2, 2]
    duration_sec = 1.0
    smoothing_sec = 0.2
    mp4_fps = 10
    mp4_codec = "libx264"
    mp4_bitrate = "5M"
    num_frames = int(np.rint(duration_sec * mp4_fps))
    random_state = np.random.RandomState(404)
    shape = [num_frames, np.prod(grid_size)] + Gs.input_shape[1:]
    all_latents = random_state.randn(*shape).astype(np.float32)
    all_latents = scipy.ndimage.gaussian_filter(
        all_latents, [smoothing_sec * mp4_fps] + [0] * len(Gs.input_shape), mode="wrap"
    )
    all_latents /= np.sqrt(np.mean(np.square(all_latents)))
    fmt = dict(func=tflib.convert_images_to_uint8, nchw_to_nhwc=True)

    def make_frame(t):
        frame_idx = int(np.clip(np.round(t * mp4_fps), 0, num_frames - 1))
        latents = all_latents[frame_idx]
        images = Gs.run(latents, None, truncation_psi=0.7, randomize_noise=False, output_transform=fmt)
        return np.concatenate([np.concatenate(images[:2], 1), np.concatenate(images[2:], 1)], 0)

    import moviepy.editor

    video_clip = moviepy.editor.VideoClip(make_frame, duration=duration_sec)
    video_clip.write_videofile("results/random_grid_404.mp4", fps=mp4_fps, codec=mp4_codec, bitrate=mp4_bitrate)

    random_state = np.random.RandomState(500)
    w = h = Gs.output_shape[2]
    dst_seeds = [700]
    style_ranges = ([0] * 3 + [range(4, 8)]) * len(dst_seeds)
    synthesis_kwargs = dict(output_transform=fmt, truncation_psi=0.7, minibatch_size=8)
    shape = [num_frames] + Gs.input_shape[1:]
    src_latents = random_state.randn(*shape).astype(np.float32)
    src_latents = scipy.ndimage.gaussian_filter(src_latents, smoothing_sec * mp4_fps, mode="wrap")
    src_latents /= np.sqrt(np.mean(np.square(src_latents)))
    dst_latents = np.stack([np.random.RandomState(seed).randn(Gs.input_shape[1]) for seed in dst_seeds])
    src_dlatents = Gs.components.mapping.run(src_latents, None)  # [seed, layer, component]
    dst_dlatents = Gs.components.mapping.run(dst_latents, None)  # [seed, layer, component]
    src_images = Gs.components.synthesis.run(src_dlatents, randomize_noise=False, **synthesis_kwargs)
    dst_images = Gs.components.synthesis.run(dst_dlatents, randomize_noise=False, **synthesis_kwargs)
    canvas = PIL.Image.new("RGB", (w * (len(dst_seeds) + 1), h * 2), "white")
    for col, dst_image in enumerate(list(dst_images)):
        canvas.paste(PIL.Image.fromarray(dst_image, "RGB"), ((col + 1) * h, 0))

    def make_frame(t):
        frame_idx = int(np.clip(np.round(t * mp4_fps), 0, num_frames - 1))
        src_image = src_images[frame_idx]
        canvas.paste(PIL.Image.fromarray(src_image, "RGB"), (0, h))
        for col in range(len(dst_images)):
            col_dlatents = np.stack([dst_dlatents[col]])
            col_dlatents[:, style_ranges[col]] = src_dlatents[frame_idx, style_ranges[col]]
            col_images = Gs.components.synthesis.run(col_dlatents, randomize_noise=False, **synthesis_kwargs)
            for row, image in enumerate(list(col_images)):
                canvas.paste(PIL.Image.fromarray(image, "RGB"), ((col + 1) * h, (row + 1) * w))
        return np.array(canvas)

    video_clip = moviepy.editor.VideoClip(make_frame, duration=duration_sec)
    video_clip.write_videofile("results/interpolate.mp4", fps=mp4_fps, codec=mp4_codec, bitrate=mp4_bitrate)

    style_ranges = [range(4, 8)]

    def make_frame(t):
        frame_idx = int(np.clip(np.round(t * mp4_fps), 0, num_frames - 1))
        col_dlatents = np.stack([dst_dlatents[0]])
        col_dlatents[:, style_ranges[0]] = src_dlatents[frame_idx, style_ranges[0]]
        col_images = Gs.components.synthesis.run(col_dlatents, randomize_noise=False, **synthesis_kwargs)
        return col_images[0]

    video_clip = moviepy.editor.VideoClip(make_frame, duration=duration_sec)
    video_clip.write_videofile("results/fine_503.mp4", fps=mp4_fps, codec=mp4_codec, bitrate=mp4_bitrate)


if __name__ == "__main__":
    main()
