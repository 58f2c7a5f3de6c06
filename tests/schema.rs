//! The entities say what the migrations make, on both databases: table by table, column by column.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use billhook::domain::database_url::DatabaseUrl;
use billhook::store::Store;
use migration::{Migrator, MigratorTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, Iterable};

/// Column to whether it may be null.
type Columns = BTreeMap<String, bool>;

#[tokio::test]
async fn entities_and_migrations_agree_on_sqlite() {
    let connection = Database::connect("sqlite::memory:").await.expect("a database");
    entities_and_migrations_agree(&connection).await;
}

#[tokio::test]
async fn entities_and_migrations_agree_on_postgres() {
    let postgres = Postgres::make().await;
    let connection = Database::connect(&postgres.url).await.expect("the database answers");
    entities_and_migrations_agree(&connection).await;
    connection.close().await.expect("the connection closes");
    postgres.drop().await;
}

#[tokio::test]
async fn replicas_that_start_at_once_migrate_once_on_postgres() {
    let postgres = Postgres::make().await;
    let url = DatabaseUrl::parse(&postgres.url).expect("a URL");
    let replica = || async {
        let store = Store::connect(&url).await.expect("the database answers");
        store.migrate().await.expect("the migrations run");
        assert!(store.is_migrated().await.expect("the database answers"));
    };
    tokio::join!(replica(), replica(), replica(), replica());
    postgres.drop().await;
}

#[tokio::test]
async fn a_migration_only_adds_on_sqlite() {
    let connection = Database::connect("sqlite::memory:").await.expect("a database");
    each_migration_only_adds(&connection).await;
}

#[tokio::test]
async fn a_migration_only_adds_on_postgres() {
    let postgres = Postgres::make().await;
    let connection = Database::connect(&postgres.url).await.expect("the database answers");
    each_migration_only_adds(&connection).await;
    connection.close().await.expect("the connection closes");
    postgres.drop().await;
}

/// While the first replica of a new version migrates, those of the old one read and write as they always did.
async fn each_migration_only_adds(connection: &DatabaseConnection) {
    let mut before = BTreeMap::<String, Columns>::new();
    for migration in Migrator::migrations() {
        Migrator::up(connection, Some(1)).await.expect("the migration runs");
        let after = made(connection).await;
        let required = required(connection).await;
        for (table, columns) in &before {
            let now = after.get(table).expect("no table goes");
            for column in columns {
                assert!(now.contains_key(column.0), "{}: {table} loses {}", migration.name(), column.0);
            }
            let added = now.keys().filter(|column| !columns.contains_key(*column));
            for column in added {
                let place = (table.clone(), column.clone());
                assert!(!required.contains(&place), "{} wants {place:?} of all writers", migration.name());
            }
        }
        before = after;
    }
}

/// A database of the test's own on the server.
struct Postgres {
    administration: DatabaseConnection,
    name: String,
    url: String,
}

impl Postgres {
    async fn make() -> Self {
        let server = env::var("BILLHOOK_TEST_POSTGRES")
            .expect("BILLHOOK_TEST_POSTGRES names a PostgreSQL server: run the tests with `make test`");
        let name = format!("billhook_schema_{}", uuid::Uuid::new_v4().simple());
        let administration = Database::connect(&server).await.expect("the server answers");
        administration.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let (base, _) = server.rsplit_once('/').expect("the server's URL ends in a database");
        let url = format!("{base}/{name}");
        Self { administration, name, url }
    }

    async fn drop(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.administration.execute_unprepared(&drop).await.expect("the database is dropped");
    }
}

async fn entities_and_migrations_agree(connection: &DatabaseConnection) {
    Migrator::up(connection, None).await.expect("the migrations run");
    let mut entities = BTreeMap::new();
    let mut add = |(table, columns): (String, Columns)| entities.insert(table, columns);
    add(described::<entity::backfill::Entity>());
    add(described::<entity::checkout::Entity>());
    add(described::<entity::customer::Entity>());
    add(described::<entity::database_copy::Entity>());
    add(described::<entity::event::Entity>());
    add(described::<entity::deployment::Entity>());
    add(described::<entity::gap_recovery::Entity>());
    add(described::<entity::installation::Entity>());
    add(described::<entity::known_price::Entity>());
    add(described::<entity::lease::Entity>());
    add(described::<entity::observation::Entity>());
    add(described::<entity::refresh::Entity>());
    add(described::<entity::retention::Entity>());
    add(described::<entity::subscription::Entity>());
    add(described::<entity::tenant::Entity>());
    add(described::<entity::transition::Entity>());
    assert_eq!(made(connection).await, entities);

    Migrator::down(connection, None).await.expect("the migrations can be undone");
    assert!(made(connection).await.is_empty());
}

/// The columns that whoever inserts a row has to fill.
async fn required(connection: &DatabaseConnection) -> BTreeSet<(String, String)> {
    let sql = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT t.name AS tab, c.name AS col FROM sqlite_master t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND c.\"notnull\" = 1 AND c.dflt_value IS NULL"
        }
        _ => {
            "SELECT table_name::text AS tab, column_name::text AS col FROM information_schema.columns \
             WHERE table_schema = 'public' AND is_nullable = 'NO' AND column_default IS NULL"
        }
    };
    let statement = sea_orm::Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.expect("the schema is read");
    let text = |row: &sea_orm::QueryResult, name| row.try_get::<String>("", name).expect("a name");
    rows.iter().map(|row| (text(row, "tab"), text(row, "col"))).collect()
}

/// What an entity says.
fn described<E: EntityTrait>() -> (String, Columns) {
    let table = E::default().table_name().to_owned();
    let column = |column: E::Column| {
        let name = sea_orm::IdenStatic::as_str(&column).to_owned();
        (name, column.def().is_null())
    };
    (table, E::Column::iter().map(column).collect())
}

/// What the migrations made.
async fn made(connection: &DatabaseConnection) -> BTreeMap<String, Columns> {
    let sql = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT t.name AS tab, c.name AS col, c.\"notnull\" = 0 AND c.pk = 0 AS nullable \
             FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"
        }
        _ => {
            "SELECT table_name::text AS tab, column_name::text AS col, is_nullable = 'YES' AS nullable \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
    };
    let statement = sea_orm::Statement::from_string(connection.get_database_backend(), sql);
    let mut tables = BTreeMap::<String, Columns>::new();
    for row in connection.query_all_raw(statement).await.expect("the schema is read") {
        let table: String = row.try_get("", "tab").expect("a table");
        let column: String = row.try_get("", "col").expect("a column");
        let nullable: bool = row.try_get("", "nullable").expect("a nullability");
        if table != "seaql_migrations" {
            tables.entry(table).or_default().insert(column, nullable);
        }
    }
    tables
}
