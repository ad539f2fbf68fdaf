import pytest
import torch

from robopolicy.nets.attention import Attention, positions


@pytest.mark.parametrize("qk_norm", [False, True])
def test_written_out_attention_equals_the_fused_kernel(qk_norm: bool) -> None:
    torch.manual_seed(0)
    plain, fused = Attention(16, 4, qk_norm=qk_norm, math=True), Attention(16, 4, qk_norm=qk_norm)
    fused.load_state_dict(plain.state_dict())
    x, context = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), fused(x))
        torch.testing.assert_close(plain(x, context), fused(x, context))


@pytest.mark.parametrize("qk_norm", [False, True])
def test_written_out_attention_has_second_derivatives(qk_norm: bool) -> None:
    torch.manual_seed(0)
    attend = Attention(4, 2, qk_norm=qk_norm, math=True).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(attend, (x, context))


def test_attention_ignores_the_order_of_its_context() -> None:
    torch.manual_seed(0)
    attend, x, context = Attention(16, 4), torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    torch.testing.assert_close(attend(x, context), attend(x, context.flip(1)))


def test_one_key_is_all_that_can_be_attended_to() -> None:
    """With a single context token the softmax is 1, so every query gets the same answer."""
    torch.manual_seed(0)
    answer = Attention(16, 4)(torch.randn(2, 3, 16), torch.randn(2, 1, 16))
    torch.testing.assert_close(answer, answer[:, :1].expand_as(answer))


def test_normed_queries_do_not_grow_with_their_input() -> None:
    torch.manual_seed(0)
    attend, x, context = Attention(16, 4, qk_norm=True), torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    torch.nn.init.zeros_(attend.query.bias)
    torch.testing.assert_close(attend(x, context), attend(100 * x, context), rtol=1e-4, atol=1e-5)


def test_a_width_must_divide_among_the_heads() -> None:
    with pytest.raises(ValueError, match="width of 10 does not divide among 4 heads"):
        Attention(10, 4)


def test_positions_are_all_different_and_of_equal_length() -> None:
    table = positions(64, 32)
    assert torch.cdist(table, table).fill_diagonal_(1.0).min() > 0.1
    torch.testing.assert_close(table.square().sum(dim=1), torch.full((64,), 16.0))
