"""A person reads the error that says what to do, not the ones around it or below it."""

import dagster as dg

from headwater.errors import HeadwaterError
from resources.failures import root_error, root_message


def test_an_error_with_a_mend_is_told_and_not_what_it_was_raised_from():
    @dg.op
    def reads():
        try:
            raise ConnectionError("refused")
        except ConnectionError as error:
            raise HeadwaterError("The source 'store' is gone.", mend="Look.") from error

    assert _told(reads) == "HeadwaterError: The source 'store' is gone. Look."


def test_an_error_of_a_library_is_told_as_it_is():
    @dg.op
    def reads():
        raise PermissionError("/documents")

    assert _told(reads) == "PermissionError: /documents"


def test_a_failure_without_an_error_is_one_all_the_same():
    assert root_error(None) is None and root_message(None) == "failed"


def _told(op) -> str:
    @dg.job
    def job():
        op()

    result = job.execute_in_process(raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    return root_message(failed.step_failure_data.error)
