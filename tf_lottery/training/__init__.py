"""Training and evaluation of one compiled Keras model, again and again."""
