//! Errors of a cluster, in words that help.

use datafusion::error::DataFusionError;
use features::FeatureError;

/// What an error of the cluster means for who asked; `Gone` for what may go well another time.
pub(super) fn told(scheduler: &str, e: &DataFusionError) -> FeatureError {
    let text = e.to_string();
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if let DataFusionError::ResourcesExhausted(what) = e.find_root() {
        return FeatureError::Request(what.clone());
    }
    if has(&["runs Kairos", "has another source on this machine", "is not known on this machine"]) {
        return FeatureError::Request(format!("the cluster at {scheduler} refuses the query: {text}"));
    }
    if has(&["no UDAF named", "no UDF named", "no function named", "is not provided for"]) {
        return FeatureError::Request(format!(
            "the cluster at {scheduler} does not know our functions; its scheduler and every executor must be started with \
             `kairos ballista` of this version ({text})"
        ));
    }
    if has(&["No such file or directory", "not found: ", "NotFound"]) {
        return FeatureError::Gone(format!(
            "the cluster at {scheduler} does not see a file of this run: scheduler and executors must see the files of \
             history, or else the directory named by --staging, under the same path as here ({text})"
        ));
    }
    if has(&["transport error", "Connection refused", "GrpcConnectionError", "tcp connect error"]) {
        return FeatureError::Gone(format!(
            "the cluster at {scheduler} went away ({text}); when it is back, run the command again"
        ));
    }
    FeatureError::Gone(format!("the cluster at {scheduler} could not do it: {text}"))
}
