"""Random samples as StyleGAN scripts make them."""

import os
import pickle
import sys

import config
import numpy as np
import PIL.Image

import dnnlib
import dnnlib.tflib as tflib


def main():
    tflib.init_tf()
    with dnnlib.util.open_url(sys.argv[1], cache_dir=config.cache_dir) as f:
        _G, _D, Gs = pickle.load(f)
    Gs.print_layers()
    for i in range(0, 3):
        rnd = np.random.RandomState(None)
        latents = rnd.randn(1, Gs.input_shape[1])
        fmt = dict(func=tflib.convert_images_to_uint8, nchw_to_nhwc=True)
        images = Gs.run(latents, None, truncation_psi=0.6, randomize_noise=True, output_transform=fmt)
        os.makedirs(config.result_dir, exist_ok=True)
        png_filename = os.path.join(config.result_dir, "example-" + str(i) + ".png")
        PIL.Image.fromarray(images[0], "RGB").save(png_filename)


if __name__ == "__main__":
    main()
