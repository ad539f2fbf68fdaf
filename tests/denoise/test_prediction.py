import torch

from robopolicy.denoise.prediction import Prediction


def test_both_readings_of_one_sample_agree() -> None:
    clean, eps = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    x = alpha * clean + sigma * eps
    for reading in (Prediction(x, eps, alpha, sigma, "eps"), Prediction(x, clean, alpha, sigma, "clean")):
        torch.testing.assert_close(reading.clean, clean)
        torch.testing.assert_close(reading.eps, eps)
        torch.testing.assert_close(reading.score, -eps / sigma)
