//! Functions in plans that go from one machine to another.
//!
//! Each of ours and of users travels with the version of the program, and one of a user with the hash of its source,
//! so that no executor computes another thing under the same name.

use std::{
    collections::HashMap,
    fmt::{Debug, Formatter},
    sync::Arc,
};

use arrow::datatypes::SchemaRef;
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::{
    catalog::TableProvider,
    common::{Result, TableReference, plan_datafusion_err},
    datasource::file_format::FileFormatFactory,
    execution::{SessionState, SessionStateBuilder, TaskContext, context::SessionContext},
    logical_expr::{AggregateUDF, Extension, LogicalPlan, ScalarUDF},
    physical_plan::ExecutionPlan,
    prelude::SessionConfig,
};
use datafusion_proto::{
    logical_plan::LogicalExtensionCodec,
    physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension},
};
use features::{FeatureError, Functions};

/// The version that must be the same everywhere.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Settings without which a query would give other types than here.
pub fn as_here(config: &mut SessionConfig) {
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
}

/// A session that knows the functions of views, for scheduler and executor.
///
/// # Errors
/// A user function with the name of one that is built in.
pub fn state(config: SessionConfig, of_users: &Functions) -> Result<SessionState, FeatureError> {
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let ctx = SessionContext::new_with_state(state);
    features::reference::make_known(&ctx, of_users)?;
    Ok(ctx.state())
}

/// What each function is known by to others.
#[derive(Clone)]
pub struct Codec(Arc<Inner>);

struct Inner {
    version: String,
    /// Hashes of the sources of user functions, by name.
    sources: HashMap<String, String>,
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
}

impl Debug for Codec {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").field("version", &self.0.version).finish_non_exhaustive()
    }
}

impl Codec {
    /// That of a program with these user functions.
    ///
    /// # Errors
    /// A user function with the name of one that is built in.
    pub fn of(of_users: &Functions) -> Result<Codec, FeatureError> {
        Codec::of_version(of_users, VERSION)
    }

    /// The same, as another version of the program would have it.
    ///
    /// # Errors
    /// As [`Codec::of`].
    pub fn of_version(of_users: &Functions, version: &str) -> Result<Codec, FeatureError> {
        let known = features::reference::functions_of(of_users)?;
        Ok(Codec(Arc::new(Inner {
            version: version.to_owned(),
            sources: of_users.sources().map(|s| (s.name.clone(), s.hash.clone())).collect(),
            scalars: known.scalars.into_iter().map(|f| (f.name().to_owned(), f)).collect(),
            aggregates: known.aggregates.into_iter().map(|f| (f.name().to_owned(), f)).collect(),
        })))
    }

    /// For plans of logic.
    pub fn logical(&self) -> Arc<dyn LogicalExtensionCodec> {
        Arc::new(Logical { ours: self.clone(), others: BallistaLogicalExtensionCodec::default() })
    }

    /// For plans of work.
    pub fn physical(&self) -> Arc<dyn PhysicalExtensionCodec> {
        Arc::new(Physical { ours: self.clone(), others: BallistaPhysicalExtensionCodec::default() })
    }

    /// What is written of a function: version and hash of its source; nothing for one of DataFusion.
    fn write(&self, name: &str, ours: bool, to: &mut Vec<u8>) {
        if ours {
            let source = self.0.sources.get(name).map_or("", String::as_str);
            to.extend_from_slice(format!("kairos {} {source}", self.0.version).as_bytes());
        }
    }

    fn check(&self, name: &str, written: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(written);
        let mut words = text.splitn(3, ' ').skip(1);
        let (version, source) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if version != self.0.version {
            return Err(plan_datafusion_err!(
                "this machine runs Kairos {} and was sent {name}() of Kairos `{version}`; run the same version on the \
                 client, the scheduler and every executor",
                self.0.version
            ));
        }
        match self.0.sources.get(name) {
            Some(own) if own != source => Err(plan_datafusion_err!(
                "the user function {name}() has another source on this machine; install the same with `kairos udf add` \
                 on the client, the scheduler and every executor, and start them again"
            )),
            _ => Ok(()),
        }
    }

    fn scalar(&self, name: &str, written: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.check(name, written)?;
        self.0.scalars.get(name).cloned().ok_or_else(|| unknown(name))
    }

    fn aggregate(&self, name: &str, written: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.check(name, written)?;
        self.0.aggregates.get(name).cloned().ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> datafusion::error::DataFusionError {
    plan_datafusion_err!(
        "the function {name}() is not known on this machine; install it with `kairos udf add` on the scheduler and every \
         executor, and start them again"
    )
}

#[derive(Debug)]
struct Logical {
    ours: Codec,
    others: BallistaLogicalExtensionCodec,
}

impl LogicalExtensionCodec for Logical {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], ctx: &TaskContext) -> Result<Extension> {
        self.others.try_decode(buf, inputs, ctx)
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        self.others.try_encode(node, buf)
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        table: &TableReference,
        schema: SchemaRef,
        ctx: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        self.others.try_decode_table_provider(buf, table, schema, ctx)
    }

    fn try_encode_table_provider(
        &self,
        table: &TableReference,
        node: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        self.others.try_encode_table_provider(table, node, buf)
    }

    fn try_decode_file_format(&self, buf: &[u8], ctx: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        self.others.try_decode_file_format(buf, ctx)
    }

    fn try_encode_file_format(&self, buf: &mut Vec<u8>, node: Arc<dyn FileFormatFactory>) -> Result<()> {
        self.others.try_encode_file_format(buf, node)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.ours.scalar(name, buf)
    }

    fn try_encode_udf(&self, f: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ours.write(f.name(), self.ours.0.scalars.contains_key(f.name()), buf);
        Ok(())
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.ours.aggregate(name, buf)
    }

    fn try_encode_udaf(&self, f: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ours.write(f.name(), self.ours.0.aggregates.contains_key(f.name()), buf);
        Ok(())
    }
}

#[derive(Debug)]
struct Physical {
    ours: Codec,
    others: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for Physical {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.others.try_decode(buf, inputs, ctx, converter)
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        self.others.try_encode(node, buf, converter)
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.ours.scalar(name, buf)
    }

    fn try_encode_udf(&self, f: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ours.write(f.name(), self.ours.0.scalars.contains_key(f.name()), buf);
        Ok(())
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.ours.aggregate(name, buf)
    }

    fn try_encode_udaf(&self, f: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ours.write(f.name(), self.ours.0.aggregates.contains_key(f.name()), buf);
        Ok(())
    }
}
