"""The world model: encoder, predictor, keypoint head and decoder."""
