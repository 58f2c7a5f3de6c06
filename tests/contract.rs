//! The committed OpenAPI document.

#[test]
fn committed_contract_is_up_to_date() {
    let committed = include_str!("../openapi/billhook.json");
    assert!(
        committed == billhook::http::openapi_document(),
        "openapi/billhook.json has drifted: run `make openapi`"
    );
}

#[test]
fn operations_have_ids_and_api_paths_end_with_a_slash() {
    let contract: serde_json::Value = serde_json::from_str(billhook::http::openapi_document()).expect("JSON");
    let mut names = Vec::new();
    for (path, operations) in contract["paths"].as_object().expect("paths") {
        assert_eq!(path.starts_with("/api/"), path.ends_with('/'), "{path}");
        for operation in operations.as_object().expect("operations").values() {
            names.push(operation["operationId"].as_str().expect("an operation id").to_owned());
        }
    }
    names.sort();
    assert_eq!(
        names,
        [
            "createBillingPortalSession",
            "createCheckoutSession",
            "getHealth",
            "getReadiness",
            "getSubscription",
            "getTenantSubscription",
            "receiveWebhook",
            "refreshCheckoutSession",
            "streamSubscription"
        ]
    );
}
