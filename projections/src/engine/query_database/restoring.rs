//! A generation that is filled with the rows of a copy, and handed to whoever follows the read model.
//!
//! It is nobody's to read yet: rows and checkpoint are there at once or not at all, and it waits, as one that was live before
//! and is to be gone back to, for the projector to bring it up to date and make it live.

use std::{collections::BTreeSet, mem, sync::Arc};

use serde::Deserialize;

use super::{
    super::{
        Doing, EngineError,
        batch::array,
        compare::part_name,
        load::sheet::{Sheet, send},
        rebuild::Purpose,
        statements::{
            Statements,
            kept::{ANCHORS, DECISIONS, KEPT, insert_decisions},
            load::Target,
        },
        transaction::{Pool, Transaction, Value},
    },
    QueryDatabase, generations, rebuilds,
};
use crate::projection::Projection;

/// What is sent at once.
const SHEET_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) struct Restoring {
    database: QueryDatabase,
    projection: Arc<Projection>,
    pub generation: i64,
    statements: Statements,
    transaction: Transaction,
    /// SQLite: the generation's own file.
    file: Option<Pool>,
    into: Goal,
    sheet: Sheet,
    decisions: Vec<String>,
}

/// Where rows go.
enum Goal {
    /// A table of the generation.
    Rows(Target),
    /// A table of all generations.
    Kept(Target),
    Anchors,
    Decisions,
}

#[derive(Deserialize)]
struct Anchors {
    source: String,
    first_position: i64,
    last_position: i64,
    anchors: String,
}

/// Why a row was not taken.
pub(crate) enum Untaken {
    /// It is not what this program writes.
    Strange(String),
    Engine(EngineError),
}

impl From<EngineError> for Untaken {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Restoring {
    /// Begins a generation whose number is above `above`, that of the one that was copied: readers and cursors know
    /// generations by their numbers, also those of a database that is gone.
    pub async fn begin(
        database: &QueryDatabase,
        projection: &Arc<Projection>,
        above: i64,
    ) -> Result<Self, EngineError> {
        let mut transaction = database.pointers().begin().await.doing("begin")?;
        let generation = generations::announce(&mut transaction, projection, above).await?;
        let mut file = None;
        if !transaction.is_postgres() {
            // announced before it is made, so that what a crash leaves half-made has a name and is removed
            transaction.commit().await.doing("announce a generation")?;
            let pool = database.generation_pool(projection.template, generation).await?;
            transaction = pool.begin().await.doing("begin")?;
            file = Some(pool);
        }
        let statements = database.statements(projection, generation);
        for statement in &statements.create_tables {
            transaction.execute(statement, &[]).await.doing("make a generation's tables")?;
        }
        // those of the copy take their place
        let forget: Arc<str> = "delete from checkpoints where read_model = $1 and generation = $2".into();
        let values = [Value::Text(projection.template.name), Value::Integer(generation)];
        transaction.execute(&forget, &values).await.doing("make a generation's tables")?;
        let sheet = Sheet::new(transaction.is_postgres(), 0);
        Ok(Self {
            database: database.clone(),
            projection: Arc::clone(projection),
            generation,
            statements,
            transaction,
            file,
            into: Goal::Decisions,
            sheet,
            decisions: Vec::new(),
        })
    }

    /// Says which table the next rows are of.
    pub async fn table(&mut self, name: &str) -> Result<(), Untaken> {
        self.flush().await?;
        let template = self.projection.template;
        let of_generation =
            self.statements.tables.iter().find(|table| part_name(template, self.generation, table) == name);
        let kept = KEPT.iter().find(|kept| kept.table == name);
        self.into = match (of_generation, kept) {
            (Some(table), _) => Goal::Rows(Target::new(table)),
            (None, Some(kept)) => Goal::Kept(kept.target()),
            (None, None) if name == ANCHORS => Goal::Anchors,
            (None, None) if name == DECISIONS.table => Goal::Decisions,
            (None, None) => return Err(Untaken::Strange(format!("{} has no table {name}", template.name))),
        };
        self.sheet = self.empty_sheet();
        Ok(())
    }

    /// Takes a row of the table that was named last.
    pub async fn row(&mut self, row: &str) -> Result<(), Untaken> {
        let unfit = |column: &str| Untaken::Strange(format!("{column} does not hold what this program writes there"));
        match &self.into {
            Goal::Rows(target) => {
                self.sheet.row();
                self.sheet.object(&target.columns, row).map_err(|error| unfit(error.column))?;
            }
            Goal::Kept(target) => {
                self.sheet.row();
                self.sheet.text(self.projection.template.name);
                self.sheet.integer(self.generation);
                self.sheet.object(&target.columns[2..], row).map_err(|error| unfit(error.column))?;
            }
            Goal::Anchors => {
                let anchors: Anchors = serde_json::from_str(row).map_err(|_| unfit(ANCHORS))?;
                let bytes = bytes(&anchors.anchors).ok_or_else(|| unfit("anchors"))?;
                let values = [
                    Value::Text(&anchors.source),
                    Value::Integer(anchors.first_position),
                    Value::Integer(anchors.last_position),
                    Value::Bytes(&bytes),
                ];
                self.transaction.execute(&self.statements.insert_anchors, &values).await.doing("write anchors")?;
            }
            Goal::Decisions => self.decisions.push(row.to_owned()),
        }
        if self.sheet.bytes() >= SHEET_BYTES_MAX { Ok(self.flush().await?) } else { Ok(()) }
    }

    fn empty_sheet(&self) -> Sheet {
        let columns = match &self.into {
            Goal::Rows(target) | Goal::Kept(target) => target.columns.len(),
            Goal::Anchors | Goal::Decisions => 0,
        };
        Sheet::new(self.transaction.is_postgres(), columns)
    }

    async fn flush(&mut self) -> Result<(), EngineError> {
        let empty = self.empty_sheet();
        let sheet = mem::replace(&mut self.sheet, empty);
        match &self.into {
            Goal::Rows(target) | Goal::Kept(target) => {
                send(&mut self.transaction, target, sheet).await.doing("write a restored generation")
            }
            Goal::Anchors | Goal::Decisions => Ok(()),
        }
    }

    /// Keeps what was written, and asks for it to be brought up to date and to become live.
    pub async fn finish(mut self) -> Result<i64, Untaken> {
        self.flush().await?;
        let template = self.projection.template;
        let checkpoints = self.transaction.fetch(&self.statements.load_checkpoints, &[]).await;
        let checkpoints = checkpoints.doing("read a vector")?;
        let there: BTreeSet<&str> = checkpoints.iter().filter_map(|row| row.first()?.as_deref()).collect();
        if there != BTreeSet::from_iter(self.projection.sources()) {
            let sources: Vec<&str> = there.into_iter().collect();
            return Err(Untaken::Strange(format!("{} was made of {}", template.name, sources.join(", "))));
        }
        for statement in &self.statements.create_indexes {
            self.transaction.execute(statement, &[]).await.doing("make a generation's indexes")?;
        }
        if let Some(file) = self.file {
            self.transaction.commit().await.doing("write a restored generation")?;
            self.database.close_generation(&file).await;
            self.transaction = self.database.pointers().begin().await.doing("begin")?;
        }
        let insert: Arc<str> = insert_decisions(template, self.transaction.is_postgres()).into();
        let decisions = array(&self.decisions);
        self.transaction.execute(&insert, &[Value::Text(&decisions)]).await.doing("record decisions")?;
        let retire: Arc<str> =
            "update generations set state = 'retired' where read_model = $1 and generation = $2".into();
        let values = [Value::Text(template.name), Value::Integer(self.generation)];
        self.transaction.execute(&retire, &values).await.doing("hand a generation over")?;
        rebuilds::announce(&mut self.transaction, template, self.generation, Purpose::Rollback, None).await?;
        self.transaction.commit().await.doing("hand a generation over")?;
        Ok(self.generation)
    }

    /// Leaves nothing of it.
    pub async fn abandon(self) -> Result<(), EngineError> {
        self.transaction.rollback().await;
        if let Some(file) = self.file {
            self.database.close_generation(&file).await;
            self.database.drop_generation(&self.projection, self.generation).await?;
        }
        Ok(())
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || hex.len() % 2 == 1 {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}
