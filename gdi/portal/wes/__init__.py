"""GA4GH Workflow Execution Service 1.1.0 (github.com/ga4gh/workflow-execution-service-schemas, folder openapi/)."""
