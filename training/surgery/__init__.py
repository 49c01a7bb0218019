"""Operations on the weights of trained networks, as arrays by name; nothing here loads TensorFlow."""
