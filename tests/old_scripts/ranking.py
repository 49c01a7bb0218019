"""Scores of D for picture files, in shuffled minibatches."""

import argparse
import pickle
import random

import numpy as np
import PIL.Image

import dnnlib.tflib as tflib
from training.misc import adjust_dynamic_range


def preprocess(file_path, resolution):
    img = np.asarray(PIL.Image.open(file_path))
    img = img.transpose([2, 0, 1])
    img = img.reshape((1, 3, resolution, resolution))
    return adjust_dynamic_range(data=img, drange_in=[0, 255], drange_out=[-1.0, 1.0])


def main(args):
    tflib.init_tf()
    minibatch_size = args.minibatch_size
    input_shape = (minibatch_size, 3, args.resolution, args.resolution)
    _G, D, _Gs = pickle.load(open(args.model, "rb"))
    image_score_all = [(image, []) for image in args.images]
    for _shuffle in range(args.num_shuffles):
        random.shuffle(image_score_all)
        for idx_1st_img in range(0, len(image_score_all), minibatch_size):
            idx_img_minibatch = []
            input_minibatch = np.zeros(input_shape)
            for i in range(minibatch_size):
                idx_img = (idx_1st_img + i) % len(image_score_all)
                idx_img_minibatch.append(idx_img)
                input_minibatch[i, :] = preprocess(image_score_all[idx_img][0], args.resolution)
            output = D.run(input_minibatch, None, resolution=args.resolution)
            for i, idx_img in enumerate(idx_img_minibatch):
                image_score_all[idx_img][1].append(output[i][0])
    for image, scores in sorted(image_score_all, key=lambda pair: np.mean(pair[1])):
        print(image, np.mean(scores))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=str, required=True)
    parser.add_argument("--images", nargs="+", required=True)
    parser.add_argument("--resolution", type=int, required=True)
    parser.add_argument("--minibatch_size", type=int, default=2)
    parser.add_argument("--num_shuffles", type=int, default=2)
    main(parser.parse_args())
