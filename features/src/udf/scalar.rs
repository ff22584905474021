//! A scalar user function as DataFusion sees it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    error::DataFusionError,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use super::plugin::Plugin;

/// Called once a row; what it gives depends on its arguments alone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct UserScalar {
    plugin: Arc<Plugin>,
    signature: Signature,
}

impl UserScalar {
    pub(super) fn new(plugin: Arc<Plugin>) -> Self {
        let types = plugin.source().arguments.iter().map(|a| a.data_type.clone()).collect();
        UserScalar { signature: Signature::exact(types, Volatility::Immutable), plugin }
    }
}

impl ScalarUDFImpl for UserScalar {
    fn name(&self) -> &str {
        &self.plugin.source().name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.plugin.source().returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let columns: Result<Vec<_>, _> =
            args.args.into_iter().map(|a| a.into_array(args.number_rows)).collect();
        Ok(ColumnarValue::Array(self.plugin.call(&columns?)?))
    }
}
