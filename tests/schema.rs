//! The entities match the tables and columns that the migrations create, on both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use billhook::domain::database_url::DatabaseUrl;
use billhook::store::Store;
use migration::{Migrator, MigratorTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, Iterable};

/// Each column, and whether it is nullable.
type Columns = BTreeMap<String, bool>;

#[tokio::test]
async fn entities_match_migrations_on_sqlite() {
    let connection = Database::connect("sqlite::memory:").await.expect("a database");
    check_entities_match_migrations(&connection).await;
}

#[tokio::test]
async fn entities_match_migrations_on_postgres() {
    let postgres = Postgres::create().await;
    let connection = Database::connect(&postgres.url).await.expect("a connection");
    check_entities_match_migrations(&connection).await;
    connection.close().await.expect("the connection closes");
    postgres.drop().await;
}

#[tokio::test]
async fn concurrent_replicas_migrate_once_on_postgres() {
    let postgres = Postgres::create().await;
    let url = DatabaseUrl::parse(&postgres.url).expect("a URL");
    let replica = || async {
        let store = Store::connect(&url).await.expect("a connection");
        store.migrate().await.expect("the migrations run");
        assert!(store.is_migrated().await.expect("a connection"));
    };
    tokio::join!(replica(), replica(), replica(), replica());
    postgres.drop().await;
}

#[tokio::test]
async fn migrations_only_add_on_sqlite() {
    let connection = Database::connect("sqlite::memory:").await.expect("a database");
    check_migrations_only_add(&connection).await;
}

#[tokio::test]
async fn migrations_only_add_on_postgres() {
    let postgres = Postgres::create().await;
    let connection = Database::connect(&postgres.url).await.expect("a connection");
    check_migrations_only_add(&connection).await;
    connection.close().await.expect("the connection closes");
    postgres.drop().await;
}

/// Replicas of the old version still read and write while the first replica of the new version
/// migrates.
async fn check_migrations_only_add(connection: &DatabaseConnection) {
    let mut before = BTreeMap::<String, Columns>::new();
    for migration in Migrator::migrations() {
        Migrator::up(connection, Some(1)).await.expect("the migration runs");
        let after = tables(connection).await;
        let required = required(connection).await;
        for (table, columns) in &before {
            let now = after.get(table).expect("no table is removed");
            for column in columns {
                assert!(now.contains_key(column.0), "{}: {table} loses {}", migration.name(), column.0);
            }
            let new_columns = now.keys().filter(|column| !columns.contains_key(*column));
            for column in new_columns {
                let added = (table.clone(), column.clone());
                assert!(!required.contains(&added), "{} makes {added:?} required", migration.name());
            }
        }
        before = after;
    }
}

/// A database of its own for each test.
struct Postgres {
    administration: DatabaseConnection,
    name: String,
    url: String,
}

impl Postgres {
    async fn create() -> Self {
        let server = env::var("BILLHOOK_TEST_POSTGRES")
            .expect("BILLHOOK_TEST_POSTGRES names a PostgreSQL server: run the tests with `make test`");
        let name = format!("billhook_schema_{}", uuid::Uuid::new_v4().simple());
        let administration = Database::connect(&server).await.expect("a connection");
        administration.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let (base, _) = server.rsplit_once('/').expect("the URL names a database");
        let url = format!("{base}/{name}");
        Self { administration, name, url }
    }

    async fn drop(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.administration.execute_unprepared(&drop).await.expect("the database is dropped");
    }
}

async fn check_entities_match_migrations(connection: &DatabaseConnection) {
    Migrator::up(connection, None).await.expect("the migrations run");
    let mut entities = BTreeMap::new();
    let mut add = |(table, columns): (String, Columns)| entities.insert(table, columns);
    add(entity_columns::<entity::backfill::Entity>());
    add(entity_columns::<entity::checkout::Entity>());
    add(entity_columns::<entity::customer::Entity>());
    add(entity_columns::<entity::database_copy::Entity>());
    add(entity_columns::<entity::event::Entity>());
    add(entity_columns::<entity::deployment::Entity>());
    add(entity_columns::<entity::gap_recovery::Entity>());
    add(entity_columns::<entity::installation::Entity>());
    add(entity_columns::<entity::known_price::Entity>());
    add(entity_columns::<entity::lease::Entity>());
    add(entity_columns::<entity::observation::Entity>());
    add(entity_columns::<entity::refresh::Entity>());
    add(entity_columns::<entity::retention::Entity>());
    add(entity_columns::<entity::subscription::Entity>());
    add(entity_columns::<entity::tenant::Entity>());
    add(entity_columns::<entity::transition::Entity>());
    assert_eq!(tables(connection).await, entities);

    Migrator::down(connection, None).await.expect("the migrations are reverted");
    assert!(tables(connection).await.is_empty());
}

/// The columns that an insert has to set.
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

fn entity_columns<E: EntityTrait>() -> (String, Columns) {
    let table = E::default().table_name().to_owned();
    let column = |column: E::Column| {
        let name = sea_orm::IdenStatic::as_str(&column).to_owned();
        (name, column.def().is_null())
    };
    (table, E::Column::iter().map(column).collect())
}

async fn tables(connection: &DatabaseConnection) -> BTreeMap<String, Columns> {
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
