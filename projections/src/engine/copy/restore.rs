//! Read models from a copy: each a generation beside what is live, which the projector makes live when it is up to date.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use event_store::backup::BackupError;
use serde::Serialize;

use super::{
    super::{
        EngineError,
        query_database::{QueryDatabase, Restoring, Untaken},
    },
    CopyError,
    lines::{End, Line, Lines, ReadModel},
};
use crate::projection::Projection;

/// A copy whose lines are those that were written.
#[derive(Debug, Clone)]
pub struct Checked {
    file: PathBuf,
    pub read_models: Vec<ReadModel>,
    pub end: End,
}

/// What came of one read model of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub name: String,
    /// Of the copy.
    pub version: i64,
    /// The one that it was made into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Why it was not restored. It is folded from the logs, as ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

impl Restored {
    /// What a copy says of a read model that nothing is made of.
    pub fn only_checked(of: &ReadModel) -> Self {
        let ReadModel { name, version, left_out, .. } = of.clone();
        Self { name, version, generation: None, left_out }
    }
}

/// Reads a copy from its first line to its last. Blocks on the disk.
pub fn check(file: &Path) -> Result<Checked, CopyError> {
    let mut lines = Lines::open(file)?;
    let mut read_models = Vec::new();
    while let Some(line) = lines.next()? {
        if let Line::ReadModel(read_model) = line {
            read_models.push(read_model);
        }
    }
    Ok(Checked { file: file.to_owned(), read_models, end: lines.checker.finish()? })
}

/// What `projections` can make of a copy, which is refused where there is something already, unless it `is_replaced`.
pub async fn restore(
    database: &QueryDatabase,
    projections: Vec<Projection>,
    copy: &Checked,
    is_replaced: bool,
) -> Result<Vec<Restored>, CopyError> {
    let projections: Vec<Arc<Projection>> = projections.into_iter().map(Arc::new).collect();
    let restored = |of: &ReadModel| Restored {
        name: of.name.clone(),
        version: of.version,
        generation: None,
        left_out: fitting(&projections, of).err(),
    };
    let mut restored: Vec<Restored> = copy.read_models.iter().map(restored).collect();
    if restored.iter().all(|one| one.left_out.is_some()) {
        let reasons = restored.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.left_out.as_ref()?)));
        let why = reasons.collect::<Vec<_>>().join("; ");
        return Err(CopyError::NothingFits { name: copy.file.display().to_string(), why });
    }
    for projection in copy.read_models.iter().filter_map(|of| fitting(&projections, of).ok()) {
        refuse_what_is_there(database, projection, is_replaced).await?;
    }
    let mut lines = Lines::open(&copy.file)?;
    let mut under_way: Option<Restoring> = None;
    let mut place = 0;
    loop {
        match next(database, &projections, &mut lines, &mut under_way).await {
            Ok(Next::Row) => {}
            Ok(Next::ReadModel { done }) => {
                if let Some(generation) = done {
                    // the one before
                    restored[place - 1].generation = Some(generation);
                }
                place += 1;
            }
            Ok(Next::End { done }) => {
                if let Some(generation) = done {
                    restored[place - 1].generation = Some(generation);
                }
                return Ok(restored);
            }
            Err(error) => {
                if let Some(half) = under_way.take() {
                    half.abandon().await?;
                }
                return Err(error);
            }
        }
    }
}

/// What a line was about, and the generation that is finished with it.
enum Next {
    Row,
    ReadModel { done: Option<i64> },
    End { done: Option<i64> },
}

async fn next(
    database: &QueryDatabase,
    projections: &[Arc<Projection>],
    lines: &mut Lines,
    under_way: &mut Option<Restoring>,
) -> Result<Next, CopyError> {
    let Some(line) = lines.next()? else { return Ok(Next::End { done: finish(under_way).await? }) };
    let taken = match (line, &mut *under_way) {
        (Line::ReadModel(read_model), _) => {
            let done = finish(under_way).await?;
            if let Ok(projection) = fitting(projections, &read_model) {
                *under_way = Some(Restoring::begin(database, projection, read_model.generation).await?);
            }
            return Ok(Next::ReadModel { done });
        }
        (Line::Table(name), Some(restoring)) => restoring.table(&name).await,
        (Line::Row(row), Some(restoring)) => restoring.row(row.get()).await,
        // of one that is left out, or about the copy as a whole
        (Line::Table(_) | Line::Row(_) | Line::Query { .. } | Line::End(_), _) => Ok(()),
    };
    match taken {
        Ok(()) => Ok(Next::Row),
        Err(Untaken::Strange(reason)) => Err(lines.checker.wrong(&reason).into()),
        Err(Untaken::Engine(error)) => Err(error.into()),
    }
}

async fn finish(under_way: &mut Option<Restoring>) -> Result<Option<i64>, CopyError> {
    let Some(restoring) = under_way.take() else { return Ok(None) };
    match restoring.finish().await {
        Ok(generation) => Ok(Some(generation)),
        Err(Untaken::Strange(reason)) => Err(BackupError::Refused(reason).into()),
        Err(Untaken::Engine(error)) => Err(error.into()),
    }
}

/// The projection that goes on from a read model of a copy, or why there is none.
fn fitting<'p>(projections: &'p [Arc<Projection>], of: &ReadModel) -> Result<&'p Arc<Projection>, String> {
    if let Some(why) = &of.left_out {
        return Err(format!("it is not in the copy: {why}"));
    }
    let projection = projections.iter().find(|projection| projection.template.name == of.name);
    let projection = projection.ok_or("this program has no such read model")?;
    if i64::from(projection.version) != of.version {
        return Err(format!(
            "the copy is of version {}, and this program makes version {}",
            of.version, projection.version
        ));
    }
    Ok(projection)
}

async fn refuse_what_is_there(
    database: &QueryDatabase,
    projection: &Projection,
    is_replaced: bool,
) -> Result<(), CopyError> {
    let template = projection.template;
    let read_model = template.name;
    if database.open_rebuild(template).await?.is_some() {
        return Err(CopyError::UnderWay { read_model, cause: EngineError::UnderWay });
    }
    let Some(live) = database.live(template).await?.filter(|_| !is_replaced) else { return Ok(()) };
    let vector = database.vector(template, live.generation).await?;
    match vector.iter().all(|(_, checkpoint)| checkpoint.position == 0) {
        true => Ok(()),
        false => Err(CopyError::NotEmpty { read_model, generation: live.generation }),
    }
}
