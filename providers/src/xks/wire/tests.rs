//! The examples of the published specification, word for word.

use super::*;

const ENCRYPT_REQUEST: &str = r#"{
    "requestMetadata": {
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "kmsOperation": "Encrypt",
        "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae",
        "kmsViaService": "ebs"
    }, 
    "additionalAuthenticatedData": "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n",
    "plaintext": "SGVsbG8gV29ybGQh",
    "encryptionAlgorithm": "AES_GCM",
    "ciphertextDataIntegrityValueAlgorithm": "SHA_256"
}"#;

const ENCRYPT_RESPONSE: &str = r#"{
    "authenticationTag": "vBxN2ncH1oEkR8WVXpmyYQ==",
    "ciphertext": "ghxkK1txeDNn3q8Y",
    "ciphertextDataIntegrityValue": "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=",
    "ciphertextMetadata": "a2V5X3ZlcnNpb249MQ==",
    "initializationVector": "HMrlRw85cAJUd5Ax"
}"#;

const DECRYPT_REQUEST: &str = r#"{
    "requestMetadata": { 
        "awsPrincipalArn": "arn:aws:iam::123456789012:user/Alice",
        "kmsKeyArn": "arn:aws:kms:us-east-2:123456789012:/key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "kmsOperation": "Decrypt",
        "kmsRequestId": "5112f4d6-db54-4af4-ae30-c55a22a8dfae",
        "kmsViaService": "ebs"
    },
    "additionalAuthenticatedData": "cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n",
    "encryptionAlgorithm": "AES_GCM",
    "ciphertext": "ghxkK1txeDNn3q8Y",
    "ciphertextMetadata": "a2V5X3ZlcnNpb249MQ==",
    "initializationVector": "HMrlRw85cAJUd5Ax",
    "authenticationTag": "vBxN2ncH1oEkR8WVXpmyYQ=="
}"#;

#[test]
fn the_examples_of_the_specification_read() {
    let request: EncryptRequest = serde_json::from_str(ENCRYPT_REQUEST).unwrap();
    assert_eq!(&*request.plaintext, b"Hello World!");
    let aad = request.additional_authenticated_data.unwrap();
    assert_eq!(&*aad, b"project=nile,department=marketing");
    assert_eq!(request.request_metadata.kms_operation, "Encrypt");

    let answer: EncryptResponse = serde_json::from_str(ENCRYPT_RESPONSE).unwrap();
    let value = integrity_value(
        &aad,
        answer.ciphertext_metadata.as_deref().unwrap(),
        &answer.initialization_vector,
        &answer.ciphertext,
        &answer.authentication_tag,
    );
    assert_eq!(
        hex::encode(value),
        "a8703f2260bd8791ec2d15ea0b23e65a0631eedcf2a13a65cc82db3f47cf5ec7"
    );
    assert_eq!(
        answer.ciphertext_data_integrity_value.as_deref(),
        Some(&value[..])
    );

    let request: DecryptRequest = serde_json::from_str(DECRYPT_REQUEST).unwrap();
    assert_eq!(request.ciphertext, answer.ciphertext);
    let answer: DecryptResponse =
        serde_json::from_str(r#"{ "plaintext": "SGVsbG8gV29ybGQh" }"#).unwrap();
    assert_eq!(&*answer.plaintext, b"Hello World!");
}

#[test]
fn metadata_health_and_errors_are_written_as_in_the_specification() {
    let metadata: MetadataResponse = serde_json::from_str(
        r#"{"keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "ENABLED"}"#,
    )
    .unwrap();
    assert_eq!(
        serde_json::to_string(&metadata).unwrap(),
        r#"{"keySpec":"AES_256","keyUsage":["ENCRYPT","DECRYPT"],"keyStatus":"ENABLED"}"#
    );
    let health: HealthResponse = serde_json::from_str(
        r#"{"xksProxyFleetSize":1,"xksProxyVendor":"Acme","xksProxyModel":"Acme AWS XKS Proxy 1.0","ekmVendor":"Acme","ekmFleetDetails":[{"id":"Id-1","model":"Acme HSM 1.0","healthStatus":"ACTIVE"}]}"#,
    )
    .unwrap();
    assert_eq!(health.ekm_fleet_details[0].health_status, "ACTIVE");
    let error = ErrorResponse::new(ErrorName::InvalidCiphertextException, "bad \u{fc}\n");
    assert_eq!(
        serde_json::to_string(&error).unwrap(),
        r#"{"errorName":"InvalidCiphertextException","errorMessage":"bad ??"}"#
    );
    let long = ErrorResponse::new(ErrorName::InternalException, &"x".repeat(9999));
    assert_eq!(long.error_message.unwrap().len(), 511);
}

#[test]
fn a_plaintext_is_not_printed() {
    let request: EncryptRequest = serde_json::from_str(ENCRYPT_REQUEST).unwrap();
    let shown = format!("{request:?}");
    assert!(
        !shown.contains("Hello") && !shown.contains("SGVsbG8"),
        "{shown}"
    );
    let error = serde_json::from_str::<Bytes>("\"hunter2!!\"").unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
