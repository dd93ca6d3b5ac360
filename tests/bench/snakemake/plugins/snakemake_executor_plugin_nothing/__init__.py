"""An executor that does nothing: every job is done as soon as it is handed over. What Snakemake itself costs."""

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings
from snakemake_storage_plugin_nothing import FILES

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=False,
    pass_default_storage_provider_args=False,
    pass_default_resources_args=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
    can_transfer_local_files=True,
)


class Executor(RemoteExecutor):
    def __post_init__(self):
        self.next_seconds_between_status_checks = 0.5

    def run_job(self, job):
        info = SubmittedJobInfo(job, external_jobid=str(job.jobid))
        self.report_job_submission(info)

    async def check_active_jobs(self, active_jobs):
        for info in active_jobs:
            FILES.update(f.storage_object.query for f in info.job.output)
            self.report_job_success(info)
        for nothing in ():
            yield nothing

    def cancel_jobs(self, active_jobs):
        pass
