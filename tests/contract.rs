//! The committed contract is the one that the service serves.

#[test]
fn the_committed_contract_is_up_to_date() {
    let committed = include_str!("../openapi/billhook.json");
    assert!(committed == billhook::http::contract(), "openapi/billhook.json has drifted: run `make openapi`");
}

#[test]
fn every_operation_has_a_name_and_every_path_of_the_api_its_slash() {
    let contract: serde_json::Value = serde_json::from_str(billhook::http::contract()).expect("JSON");
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
