use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};

use crate::library::{Code, Failure};
use crate::schema;
use crate::workload::{Workload, expect, expect_code, in_step};

pub(crate) async fn create_instance_and_database(w: &Arc<Workload>) -> Result<Json, Failure> {
    let mut configs = w.admin.instance_configs(&w.project).await.map_err(in_step("list instance configs"))?;
    configs.sort();
    let config = configs.first().ok_or("no instance config to create an instance with".to_owned())?;
    w.admin.create_instance(&w.project, last_part(&w.instance), config).await.map_err(in_step("create instance"))?;
    w.created.store(true, Ordering::Relaxed);
    w.admin.create_database(&w.instance, last_part(&w.database), schema::ddl()).await.map_err(in_step("create database"))?;
    w.admin.update_ddl(&w.database, schema::later_ddl()).await.map_err(in_step("update DDL"))?;
    let ddl = w.admin.ddl(&w.database).await.map_err(in_step("get DDL"))?;
    if !ddl.iter().any(|statement| statement.contains("Note STRING(MAX)")) {
        return Err(format!("the DDL lacks the added column: {ddl:?}").into());
    }
    let databases = list_databases_over_pages(w).await?;
    let client = w.library.connect(&w.database).await.map_err(in_step("connect"))?;
    w.client.set(client).map_err(|_| "connected twice".to_owned())?;
    Ok(json!({ "instance_configs": configs, "ddl": ddl, "databases": databases }))
}

/// Lists two databases at one a page, so that a page token makes its way there and back.
async fn list_databases_over_pages(w: &Workload) -> Result<Vec<String>, Failure> {
    let second = format!("{}/databases/second", w.instance);
    w.admin.create_database(&w.instance, "second", Vec::new()).await.map_err(in_step("create second database"))?;
    let mut databases = w.admin.databases(&w.instance, 1).await.map_err(in_step("list databases"))?;
    databases.sort();
    expect("databases", &databases, &vec![w.database.clone(), second.clone()])?;
    w.admin.drop_database(&second).await.map_err(in_step("drop second database"))?;
    Ok(databases)
}

pub(crate) async fn drop_database(w: &Arc<Workload>) -> Result<Json, Failure> {
    w.admin.drop_database(&w.database).await.map_err(in_step("drop database"))?;
    let ddl = w.admin.ddl(&w.database).await;
    let ddl = expect_code("DDL after the drop", ddl, w.admin_not_found())?;
    let query = expect_code("query after the drop", w.count("SELECT 1").await, Code::NOT_FOUND)?;
    w.admin.delete_instance(&w.instance).await.map_err(in_step("delete instance"))?;
    w.created.store(false, Ordering::Relaxed);
    Ok(json!({ "ddl_after": ddl, "query_after": query }))
}

pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
