"""A circle in latent space, with steps of about equal change between frames."""

import math
import os
import pickle
import sys

import dnnlib.tflib as tflib
import moviepy.editor
import numpy as np
from numpy import linalg


def main():
    tflib.init_tf()
    _G, _D, Gs = pickle.load(open(sys.argv[1], "rb"))
    rnd = np.random.RandomState(5)
    latents_a = rnd.randn(1, Gs.input_shape[1])
    latents_b = rnd.randn(1, Gs.input_shape[1])
    latents_c = rnd.randn(1, Gs.input_shape[1])
    fmt = dict(func=tflib.convert_images_to_uint8, nchw_to_nhwc=True)

    def circ_generator(latents_interpolate):
        radius = 40.0
        latents_axis_x = (latents_a - latents_b).flatten() / linalg.norm(latents_a - latents_b)
        latents_axis_y = (latents_a - latents_c).flatten() / linalg.norm(latents_a - latents_c)
        latents_x = math.sin(math.pi * 2.0 * latents_interpolate) * radius
        latents_y = math.cos(math.pi * 2.0 * latents_interpolate) * radius
        return latents_a + latents_x * latents_axis_x + latents_y * latents_axis_y

    def draw(position):
        latents = circ_generator(position)
        return Gs.run(latents, None, truncation_psi=0.7, randomize_noise=False, output_transform=fmt)[0]

    def mse(x, y):
        return (np.square(x.astype(float) - y)).mean()

    array_list = [draw(0.0)]
    current_pos = 0.0
    while current_pos < 0.999 and len(array_list) < 40:
        lower, upper = current_pos, 1.0
        for _ in range(12):
            current_pos = (upper + lower) / 2.0
            current_image = draw(current_pos)
            current_mse = mse(array_list[-1], current_image)
            if 10.0 <= current_mse <= 60.0:
                break
            if current_mse < 10.0:
                lower = current_pos
            else:
                upper = current_pos
        array_list.append(current_image)
    print("frames:", len(array_list))
    os.makedirs("results", exist_ok=True)
    frames = moviepy.editor.ImageSequenceClip(array_list, fps=30)
    frames.write_videofile("results/circular.mp4", fps=20, codec="libx264", bitrate="3M")


if __name__ == "__main__":
    main()
