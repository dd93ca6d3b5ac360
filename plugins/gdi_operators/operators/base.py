"""What the run's operators share: the hook, and errors turned into Airflow's own (a refusal fails at once, a server
that is away is retried).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from airflow.sdk import BaseOperator, BaseOperatorLink, get_current_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from gdi.kit.problem import ProblemError
from gdi.kit.settings import SettingsError
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.launchers import LauncherError
from gdi_operators.links.run_pages import RunJobsLink, RunResultsLink
from gdi_operators.retry import short
from gdi_operators.runs import refusal
from gdi_operators.standing_facts import WHY


def keep_reason(error: Exception) -> None:
    """Leaves what went wrong, as one line, where the run's pages find it (standing.py): an XCom of the failing task. A
    task that cannot leave it fails all the same.
    """
    with suppress(Exception):
        get_current_context()["ti"].xcom_push(WHY, str(error).strip().partition("\n")[0][:1000])


class RunOperator(BaseOperator):
    """An operator that acts for a run. `workflow` is the catalogue entry's name; `token_broker_conn_id` a connection
    instead of the settings.
    """

    operator_extra_links: tuple[BaseOperatorLink, ...] = (RunJobsLink(), RunResultsLink())
    ui_color = "#e8f1f8"

    def __init__(self, *, workflow: str, token_broker_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workflow = workflow
        self.token_broker_conn_id = token_broker_conn_id

    @contextmanager
    def broker(self) -> Iterator[TokenBrokerHook]:
        """The hook; errors inside leave as AirflowFailException (refused, misconfigured) or AirflowException (away:
        Airflow retries).
        """
        hook = TokenBrokerHook(self.token_broker_conn_id)
        try:
            yield hook
        except ProblemError as error:
            refused = refusal(error)
            keep_reason(refused)
            raise refused from None
        except AirflowException as error:
            keep_reason(error)
            raise
        except (LauncherError, SettingsError) as error:
            keep_reason(error)
            raise AirflowFailException(str(error)) from None
        except (httpx.TransportError, FileNotFoundError) as error:
            keep_reason(error)
            raise AirflowException(
                f"{short(error)}. The task is tried again; if it stays, look at the log of the named service."
            ) from None
        finally:
            hook.close()
