//! Who pgveil is to Azure: an application with a secret, a workload identity, or a managed identity.

use std::{env, sync::Arc};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{Secret, TokenCredential},
    http::ClientOptions,
};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use pgveil_config::settings;

use crate::http::HttpError;

/// What the configuration says, and where it says nothing what the environment says, as Azure's own tools read it.
pub(super) fn identity(
    at: &settings::AzureKeyVault,
    options: &ClientOptions,
) -> Result<Arc<dyn TokenCredential>, HttpError> {
    let mut options = options.clone();
    if let Some(authority) = &at.authority {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host.clone_from(authority);
        options.cloud = Some(Arc::new(CloudConfiguration::from(cloud)));
    }
    let tenant = at.tenant_id.clone().or_else(|| variable("AZURE_TENANT_ID"));
    let client = at.client_id.clone().or_else(|| variable("AZURE_CLIENT_ID"));
    if let Some(secret) = secret(at)? {
        let (Some(tenant), Some(client)) = (tenant, client) else {
            return Err(HttpError::Credentials {
                reason: "a client secret needs `tenant_id` and `client_id` beside it".to_owned(),
            });
        };
        let options = ClientSecretCredentialOptions {
            client_options: options,
        };
        let made = ClientSecretCredential::new(&tenant, client, secret, Some(options));
        return made.map(|made| made as _).map_err(unusable);
    }
    if variable("AZURE_FEDERATED_TOKEN_FILE").is_some() {
        let mut further = WorkloadIdentityCredentialOptions {
            client_id: client,
            tenant_id: tenant,
            ..WorkloadIdentityCredentialOptions::default()
        };
        further.credential_options.client_options = options;
        let made = WorkloadIdentityCredential::new(Some(further));
        return made.map(|made| made as _).map_err(unusable);
    }
    let further = ManagedIdentityCredentialOptions {
        user_assigned_id: client.map(UserAssignedId::ClientId),
        client_options: options,
    };
    let made = ManagedIdentityCredential::new(Some(further));
    made.map(|made| made as _).map_err(unusable)
}

fn secret(at: &settings::AzureKeyVault) -> Result<Option<Secret>, HttpError> {
    let Some(given) = &at.client_secret else {
        return Ok(variable("AZURE_CLIENT_SECRET").map(Secret::from));
    };
    let read = given.read().map_err(|error| HttpError::Credentials {
        reason: format!("its client secret: {error}"),
    })?;
    Ok(Some(Secret::from(read.to_string())))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn unusable(error: azure_core::Error) -> HttpError {
    HttpError::Credentials {
        reason: error.to_string(),
    }
}
