import pytest

from raybench.errors import ResultsError
from raybench.execute.stop_request import StopRequest


def test_the_first_reason_counts_and_every_request_wakes():
    stop, woken = StopRequest(), []
    stop.check()
    stop.listen(lambda: woken.append(1))
    stop.request(ResultsError("full"))
    stop.request(KeyboardInterrupt())
    with pytest.raises(ResultsError):
        stop.check()
    assert len(woken) == 2


def test_a_request_before_anyone_listens_is_kept():
    stop = StopRequest()
    assert not stop.has_listener
    stop.request(ResultsError("full"))
    with pytest.raises(ResultsError):
        stop.check()
