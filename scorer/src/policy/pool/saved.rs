//! The pool as bytes.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;

use super::{
    KINDS, Pool, Row,
    head::{Head, Model},
    inputs::{Fourier, Scaler},
    member::{Kind, Member},
    referee::Referee,
    segments::Segments,
};
use crate::{
    ScorerError,
    policy::{Ridge, columns::Columns, logistic::Logistic},
};

#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(uint64, tag = "1")]
    learned: u64,
    #[prost(message, required, tag = "2")]
    context: SavedScaler,
    #[prost(message, required, tag = "3")]
    action: SavedScaler,
    #[prost(double, tag = "4")]
    size: f64,
    #[prost(uint64, tag = "5")]
    segment_width: u64,
    #[prost(double, repeated, tag = "6")]
    segments: Vec<f64>,
    #[prost(message, required, tag = "7")]
    referee: Referee,
    #[prost(message, repeated, tag = "8")]
    early: Vec<SavedRow>,
    #[prost(message, repeated, tag = "9")]
    members: Vec<SavedMember>,
    #[prost(uint64, tag = "10")]
    inputs: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedScaler {
    #[prost(double, repeated, tag = "1")]
    rows: Vec<f64>,
    #[prost(double, repeated, tag = "2")]
    means: Vec<f64>,
    #[prost(double, repeated, tag = "3")]
    squares: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedRow {
    #[prost(double, repeated, tag = "1")]
    context: Vec<f64>,
    #[prost(string, tag = "2")]
    tip: String,
    #[prost(string, tag = "3")]
    group: String,
    #[prost(double, repeated, tag = "4")]
    features: Vec<f64>,
    #[prost(double, tag = "5")]
    reward: f64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedMember {
    #[prost(uint32, repeated, tag = "1")]
    columns: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    heads: Vec<SavedHead>,
    #[prost(uint64, tag = "3")]
    turn: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedHead {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(uint64, tag = "2")]
    rows: u64,
    /// Of the regression, or `z` of the logistic model.
    #[prost(double, repeated, tag = "3")]
    numbers: Vec<f64>,
    /// Sums of squares, or `n` of the logistic model.
    #[prost(double, repeated, tag = "4")]
    squares: Vec<f64>,
    #[prost(uint64, tag = "5")]
    inputs: u64,
    #[prost(string, repeated, tag = "6")]
    tips: Vec<String>,
    #[prost(float, repeated, tag = "7")]
    tip_rows: Vec<f32>,
    #[prost(float, repeated, tag = "8")]
    tip_sums: Vec<f32>,
    #[prost(uint64, tag = "9")]
    turn: u64,
}

impl Pool {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let scaler = |s: &Scaler| SavedScaler {
            rows: s.rows.clone(),
            means: s.means.clone(),
            squares: s.squares.clone(),
        };
        let (segment_width, segments) = self.lens.segments.to_numbers();
        let early = self.early.iter().map(|row| SavedRow {
            context: row.context.clone(),
            tip: row.tip.to_string(),
            group: row.group.to_string(),
            features: row.features.clone(),
            reward: row.reward,
        });
        Saved {
            learned: self.learned,
            context: scaler(&self.lens.context),
            action: scaler(&self.lens.action),
            size: self.lens.size,
            segment_width: segment_width as u64,
            segments,
            referee: self.referee.clone(),
            early: early.collect(),
            members: self.members.iter().map(saved_member).collect(),
            inputs: self.lens.fourier.inputs() as u64,
        }
        .encode_to_vec()
    }

    pub(super) fn take_over(&mut self, state: &[u8]) -> Result<(), ScorerError> {
        let damaged = |why: &str| ScorerError::Snapshot(format!("the saved policy cannot be read: {why}"));
        let saved = Saved::decode(state).map_err(|e| damaged(&e.to_string()))?;
        if saved.members.len() != KINDS.len() || saved.referee.members() != KINDS.len() {
            return Err(damaged("it has other members than this version's pool"));
        }
        let scaler = |s: SavedScaler| {
            let sound = s.rows.len() == s.means.len() && s.rows.len() == s.squares.len();
            sound.then(|| Arc::new(Scaler { rows: s.rows, means: s.means, squares: s.squares }))
        };
        let (Some(context), Some(action)) = (scaler(saved.context), scaler(saved.action)) else {
            return Err(damaged("the scales of its inputs are not whole"));
        };
        let segments = Segments::from_numbers(saved.segment_width as usize, saved.segments)
            .ok_or_else(|| damaged("its segments are not whole"))?;
        let mut members = Vec::with_capacity(KINDS.len());
        for (kind, member) in KINDS.into_iter().zip(saved.members) {
            let read = restored(kind, member)
                .ok_or_else(|| damaged(&format!("the numbers of its member {kind:?} are not whole")))?;
            members.push(read);
        }
        let mut fourier = Fourier::new(self.config.seed);
        fourier.cover(saved.inputs.min(1 << 16) as usize);
        let early = saved.early.into_iter().map(|row| Row {
            context: row.context,
            tip: row.tip.into(),
            group: row.group.into(),
            features: row.features,
            reward: row.reward,
        });
        self.early = early.collect();
        self.lens.context = context;
        self.lens.action = action;
        self.lens.fourier = Arc::new(fourier);
        self.lens.segments = Arc::new(segments);
        self.lens.size = saved.size;
        self.members = members;
        self.referee = saved.referee;
        self.learned = saved.learned;
        Ok(())
    }
}

fn saved_member(member: &Member) -> SavedMember {
    let mut keys: Vec<(&Arc<str>, &usize)> = member.index.iter().collect();
    keys.sort_by_key(|(_, at)| **at);
    let heads = keys.into_iter().map(|(key, at)| {
        let head = &member.heads[*at];
        let (numbers, squares, inputs) = match &head.model {
            Model::Ridge(ridge, squares) => {
                (ridge.to_numbers(), squares.iter().map(|s| f64::from(*s)).collect(), ridge.inputs())
            }
            Model::Logistic(model) => {
                let (z, n) = model.parts();
                (z.to_vec(), n.to_vec(), z.len())
            }
        };
        SavedHead {
            key: key.to_string(),
            rows: head.rows,
            turn: head.turn,
            numbers,
            squares,
            inputs: inputs as u64,
            tips: head.tips.keys().map(|tip| tip.to_string()).collect(),
            tip_rows: head.tips.values().map(|(rows, _)| *rows).collect(),
            tip_sums: head.tips.values().map(|(_, sum)| *sum).collect(),
        }
    });
    SavedMember { columns: member.columns.to_numbers(), heads: heads.collect(), turn: member.turn }
}

fn restored(kind: Kind, saved: SavedMember) -> Option<Member> {
    let mut member = Member::new(kind);
    member.turn = saved.turn;
    member.columns = Arc::new(Columns::from_numbers(&saved.columns)?);
    let index = Arc::make_mut(&mut member.index);
    let mut views = Vec::new();
    for (at, head) in saved.heads.into_iter().enumerate() {
        let model = match kind {
            Kind::Logistic(alpha) => {
                Model::Logistic(Logistic::from_parts(alpha, &head.numbers, &head.squares)?)
            }
            _ => {
                let inputs = head.inputs as usize;
                let ridge = Ridge::from_numbers(inputs, head.rows, &head.numbers)?;
                let squares: Vec<f32> = head.squares.iter().map(|s| *s as f32).collect();
                (squares.len() == inputs).then_some(Model::Ridge(ridge, squares))?
            }
        };
        if head.tips.len() != head.tip_rows.len() || head.tips.len() != head.tip_sums.len() {
            return None;
        }
        let effects = head.tip_rows.into_iter().zip(head.tip_sums);
        let tips: BTreeMap<Arc<str>, (f32, f32)> =
            head.tips.into_iter().map(Arc::from).zip(effects).collect();
        let head_read = Head { model, tips: Arc::new(tips), rows: head.rows, turn: head.turn };
        views.push(Arc::new(head_read.view(kind)));
        member.heads.push(head_read);
        index.insert(head.key.into(), at);
    }
    member.views = Arc::new(views);
    Some(member)
}
